"""A spec's file: its plain values, and the line on which each of them stands."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from distill_queue.shared.errors import InvalidInput, InvalidSettings, InvalidSpec
from distill_queue.shared.files.given_file import read_text, shown
from distill_queue.shared.files.markup import DEEPEST, Location, Malformed, parse_json, parse_toml, require_plain
from distill_queue.shared.files.yaml_text import dump_yaml, parse_yaml
from distill_queue.shared.line import shortened

MAX_BYTES = 1_000_000
#: The most mistakes of a spec that its message lists.
MOST_MISTAKES = 20
#: Characters of a mistake's words, and of a place, at the most.
LONGEST_WORDS = 1_000
LONGEST_PLACE = 200
#: How the number of a list's item is written.
_INDEX = re.compile("[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A parsed file; `lines` gives the line of a field's location, where the format tells it."""

    path: Path
    data: Any
    lines: dict[Location, int]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a `.yaml`, `.yml`, `.json` or `.toml` file, or YAML from a pipe without such a name.

        Raises:
            InvalidSpec: the file is missing, too large, or not of its format.

        """
        try:
            return cls.parse(read_text(path, MAX_BYTES), path)
        except InvalidSpec:
            raise
        except InvalidInput as error:
            raise InvalidSpec(str(error)) from error

    @classmethod
    def parse(cls, text: str, path: Path) -> Self:
        """Parse the text of a file, whose name says what format it is of.

        Raises:
            InvalidSpec: it is not of this format, or beyond the limits of `shared.files.markup`.

        """
        lines: dict[Location, int] = {}
        try:
            match path.suffix.lower():
                case ".yaml" | ".yml" | "":
                    data, lines = parse_yaml(text)
                    if data is None:
                        raise Malformed("the file is empty")
                case ".json":
                    data = parse_json(text)
                case ".toml":
                    data = parse_toml(text)
                case suffix:
                    raise Malformed(f"unknown format '{shortened(suffix, 20)}': use .yaml, .toml or .json")
        except Malformed as error:
            raise InvalidSpec(f"{shown(path)}{f':{error.line}' if error.line else ''}: {error}") from None
        if not isinstance(data, dict):
            raise InvalidSpec(f"{shown(path)}: a spec is a mapping with the keys name, teacher and students")
        return cls(path, data, lines)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """Values that stand in no file.

        Raises:
            InvalidSpec: they are beyond the limits of `shared.files.markup`.

        """
        try:
            require_plain(values)
        except Malformed as error:
            raise InvalidSpec(f"spec: {error}") from None
        return cls(Path("spec"), values, {})

    @staticmethod
    def written(data: dict[str, Any]) -> str:
        """Plain values as YAML that `read` reads as they are, all of it ASCII: it may be copied from a page."""
        return dump_yaml(data)

    def changed(self, changes: Sequence[str]) -> Self:
        """The same with some values set, each as `students.0.distillation.temperature=2`; a value is YAML.

        Raises:
            InvalidSettings: a change is not of this form, or names no place in the spec.

        """
        if not changes:
            return self
        data = copy.deepcopy(self.data)
        for change in changes:
            place, equals, text = change.partition("=")
            called, parts = f"--set {shortened(change, LONGEST_PLACE)}", place.split(".")
            if not equals or not all(parts):
                raise InvalidSettings(f"{called}: write it as students.0.distillation.temperature=2")
            try:
                if len(parts) > DEEPEST:
                    raise Malformed(f"nested too deeply: more than {DEEPEST} levels")
                require_plain(place)
                value, _ = parse_yaml(text)
            except Malformed as error:
                raise InvalidSettings(f"{called}: {error}") from None
            _put(data, parts, value, called)
        try:
            require_plain(data)
        except Malformed as error:
            raise InvalidSpec(f"{shown(self.path)}: {error}") from None
        return replace(self, data=data)

    def explain(self, error: ValidationError, inside: Location = ()) -> str:
        """One line for each mistake: file, line, field, and what would be right; `inside` is the part that was read."""
        found = list(islice(self.mistakes(error, inside), MOST_MISTAKES + 1))
        mistakes = [self.at(place, words) for place, words in found[:MOST_MISTAKES]]
        if len(found) > MOST_MISTAKES:
            mistakes.append(f"{shown(self.path)}: and more mistakes")
        return "\n".join(mistakes)

    def mistakes(self, error: ValidationError, inside: Location = ()) -> Iterator[tuple[Location, str]]:
        """Where each mistake is, and what would be right."""
        found = error.errors(include_url=False)
        for each in found:
            if not (each["type"] == "too_short" and _has_mistakes_inside(each["loc"], found)):
                place = self._field_of({**each, "loc": (*inside, *each["loc"])})
                yield place, shortened(_explained(each), LONGEST_WORDS)

    def at(self, location: Location, message: str) -> str:
        """A message with the place that it speaks of before it."""
        line = next((self.lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in self.lines), None)
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        place = f"{shown(self.path)}:{line}" if line else shown(self.path)
        return f"{place}: {shortened(field, LONGEST_PLACE)}: {message}" if field else f"{place}: {message}"

    def _field_of(self, error: Any) -> Location:
        """Pydantic's location without the tags that it adds for unions, and with the key that a message names."""
        field: list[str | int] = []
        location, key, value = error["loc"], error.get("ctx", {}).get("key"), self.data
        for position, part in enumerate(location):
            known = part in value if isinstance(value, dict) else isinstance(part, int)
            if known or (position == len(location) - 1 and error["type"] == "missing"):
                field.append(part)
                value = value[part] if known else None
        for part in () if key is None else key.split("."):
            is_index = isinstance(value, list) and _INDEX.fullmatch(part)
            field.append(int(part) if is_index else part)
            value = _item(value, field[-1])
        return tuple(field)


def _item(value: Any, part: str | int) -> Any:
    """What lies at a part of a location; None where there is nothing."""
    if isinstance(value, dict):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None


def _put(data: Any, place: list[str], value: Any, called: str) -> None:
    """Set a value deep in mappings and lists; mappings on the way are made."""
    for position, part in enumerate(place):
        last = position == len(place) - 1
        if isinstance(data, list):
            if not _INDEX.fullmatch(part) or int(part) >= len(data):
                where = ".".join(place[:position])
                raise InvalidSettings(
                    f"{called}: '{where}' has items 0 to {len(data) - 1}, and no '{shortened(part, 60)}'"
                )
            if last:
                data[int(part)] = value
            else:
                data = data[int(part)]
        elif isinstance(data, dict):
            if last:
                data[part] = value
            else:
                data = data.setdefault(part, {})
        else:
            where = shortened(".".join(place[:position]), LONGEST_PLACE)
            raise InvalidSettings(f"{called}: '{where}' is a value, and has no '{shortened(part, 60)}'")


def _has_mistakes_inside(location: Location, mistakes: list[Any]) -> bool:
    """Pydantic also calls a list too short when each of its items is refused."""
    return any(len(m["loc"]) > len(location) and m["loc"][: len(location)] == location for m in mistakes)


def _explained(error: Any) -> str:
    """Pydantic's message in the words of someone who writes specs."""
    given = json.dumps(error["input"], default=str, ensure_ascii=False)
    given = given if len(given) <= 60 else given[:57] + "..."
    match error["type"]:
        case "missing":
            return "required key is missing"
        case "spelling":
            return f"{given} {error['msg']}"
        case "tuple_type" | "list_type":
            return f"a list is needed, not {given}"
        case "too_short":
            return "at least one is needed"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a mapping is needed, not {given}"
        case "unknown_key" | "unknown_name" | "options" | "teacher" | "students" | "model":
            return str(error["msg"])
        case _:
            return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {given}"
