"""Tables as text, read piece by piece: the same rows, little memory, progress, and an early end."""

from __future__ import annotations

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import Cancelled, InvalidSpec
from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.worker.data.tables import text_stream
from distill_queue.worker.data.tables.read import read_rows
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.machine.runtime import Report

#: Values of which each column's type shows only in the last of several blocks.
VALUES: list[dict[str, Any]] = [
    {
        "late": None if row < 90 else 1,
        "number": row if row < 90 else row / 4,
        "text": "x" * (row % 9),
        "kind": "ab"[row % 2],
    }
    for row in range(100)
]


def read(place: Path, report: Report = lambda *_: None) -> Rows:
    return read_rows(TableSpec(path=place.name, target="kind"), place, report=report)


def as_csv(values: list[dict[str, Any]]) -> str:
    rows = [",".join("" if value is None else str(value) for value in row.values()) for row in values]
    return "\n".join([",".join(values[0]), *rows])


def as_json(values: list[dict[str, Any]]) -> str:
    return "\n".join(json.dumps({name: value for name, value in row.items() if value is not None}) for row in values)


@pytest.fixture(params=["csv", "jsonl"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    place = tmp_path / f"t.{request.param}"
    place.write_text((as_csv if request.param == "csv" else as_json)(VALUES))
    return place


@pytest.mark.parametrize("block_bytes", [200, 1_000])
def test_columns_are_the_same_in_one_block_and_in_many(
    table: Path, block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read(table).table.combine_chunks()
    monkeypatch.setattr(text_stream, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(text_stream, "PIECE_BYTES", 70)

    pieces = read(table).table

    assert pieces.combine_chunks().select(sorted(whole.column_names)) == whole.select(sorted(whole.column_names))
    assert pieces.column("kind").num_chunks > 1


def test_a_row_that_is_longer_than_a_block_is_read(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "BLOCK_BYTES", 20)
    long = VALUES[0] | {"text": "y" * 500}
    table.write_text((as_csv if table.suffix == ".csv" else as_json)([*VALUES, long]))

    assert read(table).table.column("text")[100].as_py() == "y" * 500


def test_memory_holds_a_few_pieces_of_the_file(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(text_stream, "PIECE_BYTES", 100_000)
    table.write_text(
        (as_csv if table.suffix == ".csv" else as_json)([VALUES[99] | {"text": "z" * 1_000} for _ in range(5_000)])
    )

    tracemalloc.start()
    try:
        read(table)  # What pyarrow holds, the table alone, is not counted.
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert table.stat().st_size > 5_000_000
    assert peak < 1_500_000


def test_how_far_the_file_is_read_is_reported(table: Path) -> None:
    reports: list[tuple[str, float | None]] = []

    read(table, lambda words, _=0, share=None: reports.append((words, share)))

    assert reports[-1] == (f"reading {table.name}, 0 of 0 MB", 1.0)
    shares = [share for _, share in reports if share is not None]
    assert all(first <= second for first, second in pairwise(shares))


def test_a_report_that_raises_ends_the_reading(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "REPORT_SECONDS", 0.001)
    with table.open("a") as file:
        file.write("\n" * 30_000_000)

    def report(_progress: str, _samples: int = 0, share: float | None = None) -> None:
        if share:
            raise Cancelled(str(share))

    with pytest.raises(Cancelled) as stopped:
        read(table, report)
    assert float(str(stopped.value)) < 1.0


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_other_encodings_are_read_in_pieces_too(table: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_stream, "PIECE_BYTES", 7)
    text = table.read_text().replace("xxxx", "xéüx")
    table.write_bytes(text.encode(encoding))

    rows = read_rows(TableSpec(path="t", target="kind", encoding=encoding), table)

    assert rows.table.column("text")[4].as_py() == "xéüx"
    assert "kind" in rows.names


def test_a_byte_of_another_encoding_is_named_with_its_line_in_any_piece(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_stream, "PIECE_BYTES", 7)
    content = table.read_bytes().replace(b"xxxxxxxx", b"xxx\xe9xxxx", 1)
    line = content[: content.index(b"\xe9")].count(b"\n") + 1
    table.write_bytes(content)

    with pytest.raises(InvalidSpec) as refused:
        read(table)

    place = f"line {line}: not utf-8 (byte {content.index(0xE9):,} of the file: e9"
    assert str(refused.value).startswith(f"{table.name}, {place}")
    assert str(refused.value).endswith("perhaps encoding: latin-1 (or cp1252)")
