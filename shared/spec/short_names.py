"""Short names: what packages call their models, losses, data sources and formats, read as references."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.extensions import ExtensionKind, extensions
from distill_queue.shared.files.markup import Location
from distill_queue.shared.spec.dataset import LISTED
from distill_queue.shared.spec.distillation import LOSSES
from distill_queue.shared.spec.export import FORMATS
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.model import FAMILIES


@dataclass(frozen=True, slots=True)
class _Names:
    """Names of one kind."""

    kind: ExtensionKind
    #: What one of them is called in messages.
    noun: str
    #: Whether it is the name of one that distill-queue itself has.
    has: Callable[[str], bool]

    def reference(self, name: str) -> str:
        """The reference that a short name stands for; any other name as it is.

        Raises:
            InvalidSpec: two have the name, or what has it is no reference.

        """
        if is_reference(name):
            return name
        found = [each for each in extensions(self.kind) if each.name == name]
        owners = [f"{each.distribution} ({each.reference})" for each in found]
        if found and self.has(name):
            raise InvalidSpec(
                f"'{name}' is a {self.noun} of distill-queue and of {' and of '.join(owners)}: write the reference, or "
                "uninstall the package"
            )
        if len(found) > 1:
            raise InvalidSpec(f"'{name}' is a {self.noun} of {' and of '.join(owners)}: write the reference of one")
        for each in found:
            if not is_reference(each.reference):
                raise InvalidSpec(f"'{name}' of {owners[0]} is not declared as package.module:callable")
            return each.reference
        return name


def _has_model(name: str) -> bool:
    return any(family.has(name) for family in FAMILIES)


_MODELS = _Names("models", "model", _has_model)
_LOSSES = _Names("losses", "loss", LOSSES.__contains__)
_FORMATS = _Names("formats", "format", FORMATS.__contains__)
_DATA = _Names("data_sources", "data set", LISTED.__contains__)
#: Where names stand in a spec; a number stands for every item of a list.
_PLACES: tuple[tuple[_Names, Location], ...] = (
    (_DATA, ("dataset", "name")),
    (_MODELS, ("teacher", "model", "name")),
    (_MODELS, ("teachers", 0, "model", "name")),
    (_MODELS, ("students", 0, "model", "name")),
    (_LOSSES, ("students", 0, "distillation", "loss")),
    (_FORMATS, ("students", 0, "export", "formats", 0)),
)


def with_references(source: SpecFile) -> SpecFile:
    """A spec's file in which a reference stands for each short name, in grids as well.

    Raises:
        InvalidSpec: two have a name, or what has it is no reference; with its place in the file.

    """
    data = source.data
    for names, path in _PLACES:
        data = _replaced(source, data, names, path, ())
    return replace(source, data=data)


def _replaced(source: SpecFile, value: Any, names: _Names, path: Location, place: Location) -> Any:
    """A value with the names at a path inside it replaced; `place` is its own."""
    match value, path:
        case {"grid": list() | tuple() as values}, _ if len(value) == 1:
            inside = [
                _replaced(source, each, names, path, (*place, "grid", index)) for index, each in enumerate(values)
            ]
            return {"grid": inside}
        case str(), ():
            try:
                return names.reference(value)
            except InvalidSpec as error:
                raise InvalidSpec(source.at(place, str(error))) from None
        case list() | tuple(), (0, *rest):
            return [_replaced(source, each, names, tuple(rest), (*place, index)) for index, each in enumerate(value)]
        case dict(), (str(key), *rest) if key in value:
            return value | {key: _replaced(source, value[key], names, tuple(rest), (*place, key))}
    return value
