"""Data on disk: what lies at the path of a spec's data set, as far as this machine sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from distill_queue.scheduler.client.continued import with_continued
from distill_queue.scheduler.client.models_on_disk import folders_of, with_models
from distill_queue.scheduler.terminal.status_line import StatusLine
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.data_folders import find_in
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.shared.spec.sources.source import DataSource


def load_spec(path: Path, settings: Settings, changes: Sequence[str] = ()) -> PipelineSpec:
    """The spec in a file, with the hash of the data that it names by a path, if they lie here, and earlier students.

    Raises:
        InvalidSpec, InvalidSettings: as for `PipelineSpec.load`.
        InvalidSpec: as for `with_content` and `with_continued`.
        BrokerUnavailable, StoreUnavailable: as for `with_continued`.

    """
    source = SpecFile.read(path).changed(changes)
    return with_continued(with_content(PipelineSpec.from_file(source), settings, source), settings, source)


def load_data(path: Path, settings: Settings) -> tuple[DatasetSpec, SoftLabelsSpec]:
    """The data set and the soft labels of the spec in a file, whose other parts may be missing, with the data's hash.

    Raises:
        InvalidSpec: the file cannot be read or used, the data cannot be read, or are others than the file says.

    """
    source = SpecFile.read(path)
    dataset, soft_labels = PipelineSpec.seen_in(source)
    return _seen(dataset, settings, source), soft_labels


def with_content(spec: PipelineSpec, settings: Settings, source: SpecFile | None = None) -> PipelineSpec:
    """A spec with the hash of the data that it names by a path, if they lie here, and of its models in folders.

    Args:
        spec: whose data set and models may be on disk.
        settings: the folders of data.
        source: the file that the spec stands in; without one, paths are relative to the working folder.

    Raises:
        InvalidSpec: the data cannot be read, are others than the spec says, or hold out no samples where the spec
            chooses by such; or as for `with_models`.

    """
    if paths := folders_of(spec):
        spec = with_models(spec, _folders(settings, source.path if source else Path("spec"), paths), settings.contents)
    dataset = spec.dataset
    if not isinstance(dataset, SourceOnDisk) or (source is None and dataset.content):
        return spec
    source = source or SpecFile(Path("spec"), {}, {})
    _require_held_out(spec, dataset, settings, source)
    return spec.model_copy(update={"dataset": _seen(dataset, settings, source)})


def with_folders(settings: Settings, spec: PipelineSpec, path: Path) -> Settings:
    """The settings of workers that are started here for the spec in a file: they read its data."""
    folders = with_folders_of(settings, spec.dataset, path).data
    if (paths := folders_of(spec)) and not settings.data:
        folders = tuple(dict.fromkeys((*folders, *_folders(settings, path, paths))))
    return settings.model_copy(update={"data": folders})


def with_folders_of(settings: Settings, dataset: DatasetSpec, path: Path) -> Settings:
    """The same for the data set of the spec in a file."""
    return settings.model_copy(update={"data": _data_folders(dataset, settings, path)})


def _require_held_out(spec: PipelineSpec, dataset: SourceOnDisk, settings: Settings, source: SpecFile) -> None:
    """Refuse a spec that chooses by held-out samples, if its data lie here and hold out none.

    Raises:
        InvalidSpec: it does, or the data cannot be looked at.

    """
    if not (choosing := spec.choosing):
        return
    try:
        place = find_in(_data_folders(dataset, settings, source.path), dataset.path)
        missing = place is not None and not dataset.holds_out_at(place)
    except InvalidInput as error:
        raise InvalidSpec(source.at(("dataset", "path"), str(error))) from error
    if missing:
        raise InvalidSpec(source.at(("dataset", "validation"), f"{choosing}, and {dataset.without_held_out}"))


def _seen(dataset: DatasetSpec, settings: Settings, source: SpecFile) -> DatasetSpec:
    """A data set with the hash of what lies at its path, if it has one and that lies here.

    Raises:
        InvalidSpec: the data cannot be read, or are others than the spec says.

    """
    if not isinstance(dataset, SourceOnDisk):
        return dataset
    folders = _data_folders(dataset, settings, source.path)
    try:
        with StatusLine(f"looking for changes in {dataset.path}") as line:
            content = dataset.find_content(folders, settings.contents, lambda hashed: line.show(hashed.words))
    except InvalidInput as error:
        raise InvalidSpec(source.at(("dataset", "path"), str(error))) from error
    if content is None:
        return dataset
    if dataset.content not in (None, content):
        raise InvalidSpec(source.at(("dataset", "content"), f"{dataset.path} has another content now: {content}"))
    return dataset.model_copy(update={"content": content})


def holds_out(spec: PipelineSpec, settings: Settings, path: Path) -> bool | None:
    """Whether the data of a spec's file have held-out samples of their own; None where this machine cannot tell.

    Raises:
        InvalidInput: they cannot be looked at, or lie outside of the folders of data.

    """
    dataset = spec.dataset.model_copy(update={"validation": 0.0})
    place = None
    if isinstance(dataset, SourceOnDisk):
        place = find_in(_data_folders(dataset, settings, path), dataset.path)
    if isinstance(dataset, SourceOnDisk) and place is not None:
        return dataset.holds_out_at(place)
    return None if dataset.may_hold_out else False


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
    folders = _data_folders(dataset, settings, path)
    return {name: str(find_in(folders, each) or each) for name, each in paths.items()}


def _data_folders(dataset: DataSource, settings: Settings, path: Path) -> tuple[Path, ...]:
    """The folders in `DISTILL_DATA`; where it is not set, those that hold the data of the spec in a file.

    Args:
        dataset: may be on disk.
        settings: hold the folders.
        path: of the spec's file; what has no such name as `spec.yaml` is a pipe, and lies in no folder of the user's.

    """
    if settings.data or not isinstance(dataset, SourceOnDisk):
        return settings.data
    return _folders(settings, path, [dataset.path, *dataset.further_paths.values()])


def _folders(settings: Settings, path: Path, paths: Iterable[str]) -> tuple[Path, ...]:
    """The folders in `DISTILL_DATA`; where it is not set, those that hold what the spec in a file names by paths."""
    if settings.data:
        return settings.data
    folder = (path.parent if path.suffix else Path()).absolute()
    return (folder, *(each.parent for each in map(Path, paths) if each.is_absolute()))
