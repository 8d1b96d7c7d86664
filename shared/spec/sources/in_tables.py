"""What a spec says of data in tables: which files hold them, and how their text is to be read."""

from __future__ import annotations

import codecs
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.sources.on_disk import SourceOnDisk, names_in

#: What the files in a folder are called, before the end of their name.
PARTS = ("train", "validation", "test", "unlabelled")
#: The ends of names that say how a table is written; CSV and TSV may also be told by `separator`.
TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson")
#: Columns that a spec may name, at the most.
MOST_COLUMNS = 100_000


def _an_encoding(name: str) -> str:
    try:
        "".encode(name)
        codecs.getincrementaldecoder(name)
    except (LookupError, ValueError):
        raise PydanticCustomError(
            "encoding", "unknown encoding '{name}', which may be utf-8, latin-1, cp1252, utf-16 …", {"name": name}
        ) from None
    return name


def _a_separator(text: str) -> str:
    if len(text) != 1 or not text.isascii() or text in "\r\n\"'" or text.isalnum():
        raise PydanticCustomError("separator", "a separator is one character, as ';' or '\\t'")
    return text


ColumnNames = Annotated[tuple[str, ...], Field(strict=False, max_length=MOST_COLUMNS)]


class SourceInTables(SourceOnDisk):
    """Data in a table: one file, or a folder with a file for each part."""

    part_held_out: ClassVar[str] = "a file or folder validation"
    wanted: ClassVar[str] = "train.csv and test.csv, or as .tsv, .parquet or .jsonl"

    columns: ColumnNames = ()
    """The names of the columns, where the first line of a CSV file has none."""
    separator: Annotated[str, AfterValidator(_a_separator)] | None = None
    """What stands between a line's values: a comma in `.csv` and a tab in `.tsv`, unless this says otherwise."""
    encoding: Annotated[str, AfterValidator(_an_encoding)] = "utf-8"
    """How characters are written in the file, as `latin-1` or `cp1252`."""

    @property
    def may_hold_out(self) -> bool:
        """Whether samples may be held out: by a share, or by a file in a folder that only a worker sees."""
        return self.validation > 0.0 or PurePosixPath(self.path).suffix.lower() not in TABLES

    def holds_out_at(self, place: Path) -> bool:
        """Whether samples are held out of a file or folder: by a share, or by a part of its own in a folder."""
        return self.validation > 0.0 or any(PurePosixPath(name).stem == "validation" for name in names_in(place))

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether a folder's file is the table of a part."""
        path = PurePosixPath(name)
        return path.stem in PARTS and path.suffix != ""
