"""Reading: a file's rows, in whichever format its name says."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoFile, opened
from distill_queue.shared.line import first_line
from distill_queue.shared.spec.sources.in_tables import TABLES, SourceInTables
from distill_queue.worker.data.tables.delimited import Delimited
from distill_queue.worker.data.tables.json_lines import read_json_lines
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.machine.runtime import Report


def read_rows(
    dataset: SourceInTables,
    place: Path,
    as_text: Collection[str] = (),
    *,
    called: str | None = None,
    decimal: str = ".",
    marks: tuple[str, ...] = (),
    report: Report = lambda *_: None,
) -> Rows:
    """All rows of a file.

    Args:
        dataset: says how its text is written.
        place: the file; its name says the format.
        as_text: columns whose values are text, whatever they look like.
        called: what messages call the file; without it the path in the spec.
        decimal: what stands before decimals in CSV.
        marks: texts that stand for a missing value, beside an empty one.
        report: called with how far it is; what it raises ends the reading.

    Raises:
        InvalidSpec: it cannot be read.

    """
    called, suffix = called or dataset.path, place.suffix.lower()
    if suffix == ".parquet":
        rows = _read_parquet(place, called, marks, report)
    elif suffix in (".jsonl", ".ndjson"):
        rows = read_json_lines(place, called, dataset.encoding, marks, report)
    elif suffix in (".csv", ".tsv") or dataset.separator:
        return Delimited.of(dataset, suffix, decimal, marks).read(place, called, as_text, report)
    else:
        raise InvalidSpec(
            f"{called}: tables are read from {', '.join(TABLES)}; if it is text, say separator: what is between values"
        )
    return rows.with_text(as_text)


def _read_parquet(place: Path, called: str, marks: tuple[str, ...], report: Report) -> Rows:
    try:
        with opened(place) as file:
            whole = parquet.ParquetFile(file)
            tables = [whole.schema_arrow.empty_table()]
            for number in range(groups := whole.num_row_groups):
                tables.append(whole.read_row_group(number, use_threads=False))
                report(f"reading {called}, {number + 1:,} of {groups:,} groups of rows", 0, (number + 1) / groups)
            table = pa.concat_tables(tables)
    except NoFile as error:
        raise InvalidSpec(f"{called}: {error}") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidSpec(f"{called}: no Parquet file that can be read: {error}") from error
    except OSError as error:
        if error.errno is not None:  # The disk's; what Arrow says of damaged bytes has no number.
            raise
        raise InvalidSpec(f"{called}: the Parquet file is damaged: {first_line(error)}") from error
    return Rows.of(table, called, lambda row: f"row {row + 1:,}", marks)
