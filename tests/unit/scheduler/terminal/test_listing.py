"""A list that may be long is printed in columns, page by page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from distill_queue.scheduler.terminal.listing import PAGE_ROWS, Column, print_listing
from distill_queue.scheduler.terminal.output import PAGE_VALUES, print_json_list


def printed(columns: list[Column], rows: list[tuple[str, ...]], *, width: int = 80, colours: bool = False) -> list[str]:
    console = Console(
        file=StringIO(), width=width, force_terminal=colours, color_system="standard" if colours else None
    )
    print_listing(console, columns, rows)
    return str(console.file.getvalue()).splitlines()  # type: ignore[attr-defined]


def test_columns_stand_below_each_other_also_with_wide_characters() -> None:
    columns = [Column("name", 6), Column("size", right=True), Column("what")]

    lines = printed(columns, [("a", "1", "x"), ("教師", "1,000", "y"), ("[b]", "20", "")])

    assert lines[0] == "name     size  what"
    assert [cell_len(line[: line.index(mark)]) for line, mark in zip(lines[1:], "xy", strict=False)] == [15, 15]
    assert lines[3] == "[b]        20"


def test_a_cell_without_room_goes_on_below_and_loses_nothing() -> None:
    columns = [Column("id", 8), Column("now", folds=True), Column("by", 60, folds=True)]

    lines = printed(columns, [("12345678", "short", "word " * 12), ("2", "", "one")], width=40)

    assert all(cell_len(line) <= 40 for line in lines)
    assert " ".join(lines[1:-1]).count("word") == 12
    assert lines[-1].split() == ["2", "one"]


def test_a_terminal_too_narrow_for_any_list_gets_all_of_it() -> None:
    lines = printed([Column("id", 30), Column("now", 30, folds=True)], [("i" * 30, "n" * 30)], width=10)

    assert lines[1].startswith("i" * 30)
    assert "".join(lines[1:]).count("n") == 30
    assert printed([Column("id")], [("i" * 30,)], width=10) == ["id", "i" * 30]


def test_only_the_cells_of_their_column_have_its_styles() -> None:
    columns = [Column("id"), Column("state", styles={"done": "green"})]

    lines = printed(columns, [("done", "done"), ("b", "other")], colours=True)

    assert lines[1] == "done  \x1b[32mdone\x1b[0m"
    assert lines[2] == "b     other"


def test_the_first_rows_are_printed_before_the_last_are_known() -> None:
    console, seen = Console(file=StringIO(), width=80), list[int]()

    def rows() -> Iterator[tuple[str]]:
        for number in range(2 * PAGE_ROWS + 1):
            seen.append(str(console.file.getvalue()).count("\n"))  # type: ignore[attr-defined]
            yield (str(number),)

    print_listing(console, [Column("number")], rows())

    assert seen[PAGE_ROWS - 1 : PAGE_ROWS + 1] == [0, PAGE_ROWS + 1]  # With the columns' names.
    assert seen[-1] == 2 * PAGE_ROWS + 1


@pytest.mark.parametrize("count", [0, 1, 3, PAGE_VALUES, 2 * PAGE_VALUES + 1])
def test_a_list_is_the_same_json_page_by_page_as_at_once(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    values = ([{"a": [1, {"b": "é\n]"}], "c": {}}, [], None, "text"] * count)[:count]

    print_json_list(iter(values))
    alone = capsys.readouterr().out
    print_json_list(iter(values), lambda page: {"values": page, "others": [None, "null"]})
    within = capsys.readouterr().out

    assert alone == json.dumps(values, indent=1, ensure_ascii=False) + "\n"
    assert within == json.dumps({"values": values, "others": [None, "null"]}, indent=1, ensure_ascii=False) + "\n"
