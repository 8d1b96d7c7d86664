"""Splits: the parts of a data set of the library `datasets`, from the hub or a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
from datasets.exceptions import DatasetGenerationError, DatasetsError

from distill_queue.shared.errors import DistillError, InvalidSpec, Unavailable
from distill_queue.shared.line import first_line, listed, shortened
from distill_queue.shared.spec.sources.hugging_face import (
    SPLIT_NAMES,
    HuggingFaceData,
    HuggingFaceFolderSpec,
    HuggingFaceHubSpec,
)
from distill_queue.worker.data.tables.parts import WHOLE
from distill_queue.worker.data.tables.rows import Rows, require_column
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.outages import can_pass

#: The file by which `load_from_disk` knows a folder that `save_to_disk` wrote.
WRITTEN = ("dataset_dict.json", "state.json")
#: Where the library keeps what it has downloaded: `HF_HOME` names another place.
CACHE = Path(datasets.config.HF_CACHE_HOME)
#: Splits that a message names one by one, and characters of what the library says.
MOST_NAMED, LONGEST_REASON = 10, 300


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one part."""

    #: A `datasets.Dataset`.
    rows: Any
    #: What the data set calls it, and what messages call the data set.
    name: str
    of: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"{self.of}, {self.name}"

    def at(self, row: int) -> str:
        """Where a row stands in it, as `train[17]`."""
        return f"{self.name}[{row}]"

    def feature(self, column: str, key: str) -> Any:
        """What a column holds, as the library says it.

        Raises:
            InvalidSpec: there is no such column; the message says what the spec calls it, and which there are.

        """
        require_column(self.called, self.rows.column_names, column, key)
        return self.rows.features[column]

    def read(self, column: str) -> Rows:
        """A column, in memory.

        Raises:
            InvalidSpec: it has no rows.

        """
        table = self.rows.select_columns([column]).with_format("arrow")[:]
        return Rows.of(table, self.of, self.at, ())


def downloaded(dataset: HuggingFaceHubSpec) -> dict[str, Split]:
    """The splits of a data set on the hub, by their part: `train` and `test` at least, or `whole` without a test set.

    Raises:
        InvalidSpec: there is no such data set, or it lacks a split.
        Unavailable: the hub does not give it for now.

    """
    if Path(dataset.called).exists():
        raise InvalidSpec(
            f"{dataset.name}: 'datasets' would read {dataset.called} in the worker's working folder instead: rename it"
        )
    with _problems(dataset.called):
        builder = datasets.load_dataset_builder(dataset.called, dataset.configuration, revision=dataset.revision)
        if builder.hash != dataset.revision:  # The library takes any commit that it has, if the hub does not answer.
            raise Unavailable(f"{dataset.called}: the hub does not give {dataset.revision}, and the cache has another")
        here = f"hf://datasets/{dataset.called}@{dataset.revision}/"
        return _by_part(dataset, _built(dataset, builder, lambda file: file.startswith(here)))


def in_folder(dataset: HuggingFaceFolderSpec, place: Path, scratch: Path) -> dict[str, Split]:
    """The splits of a data set in a folder, by their part as those of `downloaded`.

    Args:
        dataset: says what of it is read.
        place: the folder.
        scratch: takes what the library makes of the folder's files.

    Raises:
        InvalidSpec: there is none in it, it names files outside of the folder, or it lacks a split.
        Unavailable: the disk does not give it for now.

    """
    with _problems(dataset.called):
        if any((place / written).is_file() for written in WRITTEN):
            return _by_part(dataset, datasets.load_from_disk(place))
        builder = datasets.load_dataset_builder(str(place), dataset.configuration, cache_dir=str(scratch))
        inside = place.resolve()
        return _by_part(dataset, _built(dataset, builder, lambda file: Path(file).resolve().is_relative_to(inside)))


def _built(dataset: HuggingFaceData, builder: Any, is_inside: Callable[[str], bool]) -> Any:
    """The `DatasetDict` of a builder.

    Raises:
        InvalidSpec: the data set names a file that is not in it.

    """
    for file in (file for files in (builder.config.data_files or {}).values() for file in files):
        if not is_inside(file):
            raise InvalidSpec(f"{dataset.called}: its README.md names a file that is not in the data set: {file}")
    builder.download_and_prepare()
    return builder.as_dataset()


def _by_part(dataset: HuggingFaceData, read: Any) -> dict[str, Split]:
    """The splits that the spec names, else those with the usual names.

    Args:
        dataset: the spec.
        read: a `DatasetDict`, or a `Dataset` alone.

    Raises:
        InvalidSpec: one is not there.

    """
    splits = read if isinstance(read, Mapping) else {"train": read}
    found = {str(name): Split(rows, str(name), dataset.called) for name, rows in splits.items()}
    there = listed(list(found), MOST_NAMED)
    parts: dict[str, Split] = {}
    for part, names in SPLIT_NAMES.items():
        usual = (name for name in names if name in found and name not in dataset.splits.values())
        if chosen := dataset.splits.get(part) or next(usual, None):
            if chosen not in found:
                raise InvalidSpec(f"dataset.splits.{part}: {dataset.called} has no split '{chosen}' (there: {there})")
            parts[part] = found[chosen]
    if "train" not in parts:
        raise InvalidSpec(f"{dataset.called} has no split train (there: {there}): say which, as splits: {{train: …}}")
    if "test" in parts:
        return parts
    if "validation" in parts:
        raise InvalidSpec(
            f"{dataset.called} has no split test (there: {there}): say which is to be tested on, as "
            f"splits: {{test: validation}}"
        )
    return {WHOLE if part == "train" else part: split for part, split in parts.items()}


@contextmanager
def _problems(called: str) -> Iterator[None]:
    """Turn errors of the library into messages for people.

    Raises:
        InvalidSpec: there is no such data set, or its files cannot be read.
        Unavailable: another try may help.

    """
    datasets.disable_progress_bars()
    try:
        yield
    except (DatasetsError, pa.ArrowException, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, DistillError) or memory.is_short(error):
            raise
        why = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        text = f"{called}: {shortened(first_line(why), LONGEST_REASON)}"
        raise (Unavailable if can_pass(error) else InvalidSpec)(text) from error
