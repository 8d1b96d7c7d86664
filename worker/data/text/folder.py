"""A folder of texts, a file each, as rows: `train/<class>/*.txt`, as Maas et al. 2011 lay out the IMDb reviews."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.sources.in_tables import PARTS
from distill_queue.shared.spec.sources.text import TextSpec
from distill_queue.shared.text import encodable
from distill_queue.worker.data.tables.parts import WHOLE
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.text_file import read_text
from distill_queue.worker.machine.runtime import Report

#: What a folder of training texts without a class is called beside those of the classes.
UNLABELLED = ("unsup", "unlabelled")


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
    classes = sorted(
        each for each in folder.iterdir() if each.is_dir() and each.name not in UNLABELLED and each.name[0] != "."
    )
    return [(file, encodable(each.name)) for each in classes for file in _texts(each)]


def _texts(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("*.txt") if each.name[0] != ".")
