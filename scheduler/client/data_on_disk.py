"""Data on disk: what lies at the path of a spec's data set, as far as this machine sees it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.data_folders import find_in
from distill_queue.shared.files.given_file import shown
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk


def load_spec(path: Path, settings: Settings, changes: Sequence[str] = ()) -> PipelineSpec:
    """The spec in a file, with the hash of the data that it names by a path, if they lie here.

    Raises:
        InvalidSpec, InvalidSettings: as for `PipelineSpec.load`.
        InvalidSpec: the data cannot be read, or are others than the spec says.

    """
    source = SpecFile.read(path).changed(changes)
    return with_content(PipelineSpec.from_file(source), settings, source)


def with_content(spec: PipelineSpec, settings: Settings, source: SpecFile | None = None) -> PipelineSpec:
    """A spec with the hash of the data that it names by a path, if they lie here.

    Args:
        spec: whose data set may be on disk.
        settings: the folders of data.
        source: the file that the spec stands in; without one, paths are relative to the working folder.

    Raises:
        InvalidSpec: the data cannot be read, or are others than the spec says.

    """
    dataset = spec.dataset
    if not isinstance(dataset, SourceOnDisk) or (source is None and dataset.content):
        return spec
    source = source or SpecFile(Path("spec"), {}, {})
    place = ("dataset", "path")
    try:
        content = dataset.find_content(_data_folders(spec, settings, source.path), settings.contents)
    except InvalidInput as error:
        raise InvalidSpec(source.at(place, str(error))) from error
    if content is None:
        return spec
    if dataset.content not in (None, content):
        raise InvalidSpec(source.at(("dataset", "content"), f"{dataset.path} has another content now: {content}"))
    return spec.model_copy(update={"dataset": dataset.model_copy(update={"content": content})})


def with_folders(settings: Settings, spec: PipelineSpec, path: Path) -> Settings:
    """The settings of workers that are started here for the spec in a file: they read its data."""
    return settings.model_copy(update={"data": _data_folders(spec, settings, path)})


def holds_out(spec: PipelineSpec, settings: Settings, path: Path) -> bool:
    """Whether the data of a spec's file have held-out samples of their own, as far as this machine sees it.

    Raises:
        InvalidInput: they cannot be looked at, or lie outside of the folders of data.

    """
    dataset = spec.dataset
    if not isinstance(dataset, SourceOnDisk):
        return False
    place = find_in(_data_folders(spec, settings, path), dataset.path)
    try:
        return place is not None and place.is_dir() and dataset.holds_out(each.name for each in place.iterdir())
    except OSError as error:
        raise InvalidInput(f"{shown(place or path)}: {error.strerror or error}") from error


def paths_from_elsewhere(spec: PipelineSpec, settings: Settings, path: Path) -> dict[str, str]:
    """The paths of the data of a spec's file, by the names of their fields, for a file in another folder.

    They are absolute, unless they start from the folders in `DISTILL_DATA` or lead to nothing here.
    """
    dataset = spec.dataset
    if not isinstance(dataset, SourceOnDisk):
        return {}
    paths = {"path": dataset.path} | dataset.further_paths
    if settings.data:
        return paths
    folders = _data_folders(spec, settings, path)
    return {name: str(find_in(folders, each) or each) for name, each in paths.items()}


def _data_folders(spec: PipelineSpec, settings: Settings, path: Path) -> tuple[Path, ...]:
    """The folders in `DISTILL_DATA`; where it is not set, those that hold the data of the spec in a file.

    Args:
        spec: whose data set may be on disk.
        settings: hold the folders.
        path: of the spec's file; what has no such name as `spec.yaml` is a pipe, and lies in no folder of the user's.

    """
    dataset = spec.dataset
    if settings.data or not isinstance(dataset, SourceOnDisk):
        return settings.data
    folder = path.parent if path.suffix else Path()
    paths = map(Path, (dataset.path, *dataset.further_paths.values()))
    return (folder, *(each.parent for each in paths if each.is_absolute()))
