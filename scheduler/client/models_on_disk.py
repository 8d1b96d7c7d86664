"""Models on disk: what lies in the folders that a spec's models name, as far as this machine sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill_queue.scheduler.terminal.status_line import StatusLine
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.spec.models.hugging_face import HuggingFaceModelSpec
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.pipeline import PipelineSpec

Change = Callable[[HuggingFaceModelSpec], HuggingFaceModelSpec]


def with_models(spec: PipelineSpec, folders: tuple[Path, ...], memory: Path) -> PipelineSpec:
    """A spec whose models in folders have the hash of what lies there.

    Args:
        spec: its models may be in folders.
        folders: in which they are looked for.
        memory: a file in which hashes are remembered.

    Raises:
        InvalidSpec: a folder is not there and has a name as on the hub, cannot be read, or has another content than is
            said.

    """

    def seen(model: HuggingFaceModelSpec) -> HuggingFaceModelSpec:
        if model.revision:
            return model
        try:
            place = model.find(folders)
            if place is None or not place.is_dir():
                if model.content or "/" not in model.place:
                    return model  # A folder that only workers see.
                raise InvalidSpec(
                    f"{model.name}: there is no such folder here, and a model of the hub has a revision, the hash of "
                    "a commit; of a folder that only workers see, say the content"
                )
            with StatusLine(f"looking for changes in {model.place}") as line:
                content = model.content_at(place, memory, lambda hashed: line.show(hashed.words))
        except InvalidInput as error:
            raise InvalidSpec(f"{model.name}: {error}") from error
        if model.content not in (None, content):
            raise InvalidSpec(f"{model.name}: its folder has another content now: {content}")
        return model.model_copy(update={"content": content})

    changed: PipelineSpec = _changed(spec, seen)
    return changed


def folders_of(spec: PipelineSpec) -> list[str]:
    """The folders that a spec's models name."""
    return [model.place for model in _models_in(spec) if not model.revision]


def _changed(value: Any, change: Change) -> Any:
    """A part of a spec with its models changed; the same object where it has none."""
    if isinstance(value, HuggingFaceModelSpec):
        return change(value)
    if isinstance(value, tuple):
        items = tuple(_changed(item, change) for item in value)
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    if isinstance(value, SpecPart):
        found = {name: _changed(field, change) for name, field in value}
        different = {name: field for name, field in found.items() if field is not getattr(value, name)}
        return value.model_copy(update=different) if different else value
    return value


def _models_in(value: Any) -> Iterator[HuggingFaceModelSpec]:
    if isinstance(value, HuggingFaceModelSpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _models_in(item)
    elif isinstance(value, SpecPart):
        for _, field in value:
            yield from _models_in(field)
