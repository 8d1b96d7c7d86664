"""A folder of texts, a file each, as rows: `train/<class>/*.txt`, as Maas et al. 2011 lay out the IMDb reviews."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.content import files_below
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.in_tables import PARTS
from distill_queue.shared.spec.sources.text import TOKENIZER, TextSpec
from distill_queue.shared.text import encodable
from distill_queue.worker.data.tables.parts import WHOLE
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.text_file import read_text
from distill_queue.worker.machine.runtime import Report

#: What a folder of training texts without a class is called beside those of the classes.
UNLABELLED = ("unsup", "unlabelled")
#: Things that a warning names one by one.
MOST_NAMED = 5


def is_folder_of_texts(place: Path) -> bool:
    """Whether a path holds a folder a part, and not a file a part."""
    return (place / "train").is_dir()


def rows_of(dataset: TextSpec, place: Path, report: Report) -> dict[str, Rows]:
    """The rows of each part, with the spec's column names.

    Args:
        dataset: says what of it is read.
        place: the folder.
        report: called with how far it is; what it raises ends the reading.

    Raises:
        InvalidSpec: a folder has no texts, or a text cannot be read.

    """
    files = {part: _files(place / part, labelled=part != "unlabelled") for part in PARTS if (place / part).is_dir()}
    files["unlabelled"] = files.get("unlabelled", []) + [
        (file, None) for name in UNLABELLED for file in _texts(place / "train" / name)
    ]
    if not files["unlabelled"]:
        del files["unlabelled"]
    if "test" not in files:
        if len(files) > 1:
            raise InvalidSpec(f"{dataset.path}: has no folder test beside {' and '.join(files)}")
        files = {WHOLE: files["train"]}
    return {part: _rows(dataset, place, part, found, report) for part, found in files.items()}


def warnings_of(place: Path, parts: Mapping[str, Rows]) -> Iterator[DataWarning]:
    """What lies in a folder of texts and is not read, and folders of classes without a text.

    Args:
        place: the folder.
        parts: the rows that were read of it.

    """
    read = {rows.where(row) for rows in parts.values() for row in range(len(rows))}
    folders = {str(PurePosixPath(name).parent) for name in read}
    split = [each for part in PARTS[:3] if (place / part).is_dir() for each in _classes(place / part)]
    if empty := [name for name in (each.relative_to(place).as_posix() for each in split) if name not in folders]:
        text = f"{len(empty):,} of {len(split):,} folders of classes have no text: {listed(empty, MOST_NAMED)}"
        yield DataWarning(kind="unused_classes", text=text)
    there = (file for file in files_below(place, lambda name: name != TOKENIZER))
    others = Counter(
        file.suffix.lower() or "no ending" for file in there if file.relative_to(place).as_posix() not in read
    )
    if others:
        counts = listed([f"{count:,} {ending}" for ending, count in others.most_common()], MOST_NAMED)
        text = f"{others.total():,} files are not read, as they are not <class>/*.txt: {counts}"
        yield DataWarning(kind="unread_files", text=text)


def _rows(dataset: TextSpec, place: Path, part: str, files: list[tuple[Path, str | None]], report: Report) -> Rows:
    folder = "train" if part == WHOLE else part
    if not files:
        raise InvalidSpec(f"{dataset.path}/{folder}: has no texts: they are files {folder}/<class>/*.txt")
    names = [file.relative_to(place).as_posix() for file, _ in files]
    texts = list[str]()
    for (file, _), name in zip(files, names, strict=True):
        texts.append(read_text(file, f"{dataset.path}/{name}", dataset.encoding))
        report(f"reading {folder}, {len(texts):,} of {len(files):,} texts", 0, len(texts) / len(files))
    table = pa.table(
        {
            dataset.text: pa.array(texts, pa.large_string()),
            dataset.target: pa.array([label for _, label in files], pa.large_string()),
        }
    )
    return Rows.of(table, dataset.path, names.__getitem__, ())


def _files(folder: Path, *, labelled: bool) -> list[tuple[Path, str | None]]:
    """The texts in a part's folder, in the order of their names, and their classes."""
    if not labelled:
        return [(file, None) for file in _texts(folder)]
    return [(file, encodable(each.name)) for each in _classes(folder) for file in _texts(each)]


def _classes(folder: Path) -> list[Path]:
    """The folders of classes in a part's folder."""
    there = (each for each in folder.iterdir() if each.is_dir())
    return sorted(each for each in there if each.name not in UNLABELLED and each.name[0] != ".")


def _texts(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("*.txt") if each.name[0] != ".")
