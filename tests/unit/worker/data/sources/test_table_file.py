"""A table in a file or folder as a data set."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.dataset import dataset_reader
from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.tables.columns import counts_rows
from distill_queue.worker.data.tables.read import read_rows
from distill_queue.worker.machine.runtime import Runtime

#: Twenty wines of two kinds; the number is the better for one of them.
WINES = "alcohol,colour,organic,kind\n" + "".join(
    f"{10 + row / 4},{('red', 'white')[row % 2]},{('true', 'false')[row % 3 == 0]},{('port', 'cava')[row % 2]}\n"
    for row in range(20)
)


def read(folder: Path, path: str = "wine.csv", **options: Any) -> Arrays:
    """Read what lies in a folder, as a worker does that may read it."""
    reading = Reading(Runtime(torch.device("cpu"), data=(folder,), digests=folder / ".digests"))
    spec = {"name": "table", "path": path, "target": "kind"} | options
    return load(dataset_reader().validate_python(spec), reading)


def write(folder: Path, text: str | bytes = WINES, path: str = "wine.csv") -> None:
    file = folder / path
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def changed(line: int, text: str) -> str:
    """The wines with another line in place of one, counted from 1 as an editor does."""
    lines = WINES.splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


def test_numbers_stay_truths_become_1_and_texts_become_a_column_each(tmp_path: Path) -> None:
    write(tmp_path)

    arrays = read(tmp_path)

    assert arrays.class_names == ("cava", "port")
    assert arrays.train_inputs.dtype == np.float32
    assert (arrays.train_inputs.shape, arrays.test_inputs.shape) == ((16, 4), (4, 4))
    rows = np.concatenate((arrays.train_inputs, arrays.test_inputs))
    np.testing.assert_array_equal(sorted(rows[:, 0]), 10 + np.arange(20) / 4)
    np.testing.assert_array_equal(rows[:, 1] + rows[:, 2], 1)
    np.testing.assert_array_equal(arrays.train_inputs[:, 1], arrays.train_targets, err_msg="red is port")
    assert rows[:, 3].sum() == 13
    assert np.bincount(arrays.test_targets).tolist() == [2, 2]


def test_what_became_of_which_column_is_kept(tmp_path: Path) -> None:
    write(tmp_path, changed(4, "10.5,,true,port"))

    files = read(tmp_path, missing="mean").files

    described = json.loads(files["columns.json"])
    assert described["classes"] == ["cava", "port"]
    assert [column["kind"] for column in described["columns"]] == ["number", "category", "boolean"]
    assert described["columns"][1]["categories"] == ["red", "white"]
    assert sum(described["columns"][1]["mean"]) == pytest.approx(1)


@pytest.mark.parametrize("suffix", [".tsv", ".parquet", ".jsonl"])
def test_every_format_gives_the_same_arrays(tmp_path: Path, suffix: str) -> None:
    rows = [line.split(",") for line in WINES.splitlines()[1:]]
    values = [
        {"alcohol": float(a), "colour": c, "organic": o == "true", "kind": kind if row else None}
        for row, (a, c, o, kind) in enumerate(rows)
    ]
    write(tmp_path, changed(2, "10.0,red,false,"))
    if suffix == ".tsv":
        write(tmp_path, changed(2, "10.0,red,false,").replace(",", "\t"), "wine.tsv")
    elif suffix == ".jsonl":
        write(tmp_path, "\n\n".join(map(json.dumps, values)), "wine.jsonl")
    else:
        table = pa.Table.from_pylist(values)
        colours = table["colour"].dictionary_encode()
        parquet.write_table(table.set_column(1, "colour", colours), tmp_path / "wine.parquet")

    arrays, others = read(tmp_path), read(tmp_path, f"wine{suffix}")

    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        np.testing.assert_array_equal(getattr(arrays, name), getattr(others, name))
    assert arrays.class_names == others.class_names
    assert (arrays.train_targets == -1).sum() == 1, "a row without a class has no label"


def test_whole_numbers_as_classes_are_sorted_as_numbers_and_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path, "x,quality\n" + "".join(f"{row / 2},{(3, 10, 9)[row % 3]}\n" for row in range(30)))

    arrays = read(tmp_path, target="quality")

    assert arrays.class_names == ("3", "9", "10")
    assert sorted(set(arrays.train_targets.tolist())) == [0, 1, 2]
    assert not arrays.warnings


def test_a_folder_has_a_file_for_each_part(tmp_path: Path) -> None:
    header, *lines = WINES.splitlines()
    write(tmp_path, "\n".join([header, *lines[:8]]), "wines/train.csv")
    write(tmp_path, "\n".join([header, *lines[8:10]]), "wines/validation.csv")
    write(tmp_path, "\n".join([header, *lines[10:16], "30,green,false,cava"]), "wines/test.csv")
    write(tmp_path, "colour,alcohol,organic\nred,1,true\nblue,2,false\n", "wines/unlabelled.csv")

    arrays = read(tmp_path, "wines")

    assert arrays.train_targets.tolist() == [1, 0] * 5 + [-1, -1]
    assert arrays.held_out is not None
    assert arrays.held_out.tolist() == [8, 9]
    assert arrays.train_inputs[-1].tolist() == [2, 0, 0, 0], "an unknown category is all zeros"
    (warning,) = [each for each in arrays.warnings if each.kind == "unknown_categories"]
    assert warning.text.startswith("2 values in 'colour' are none of the categories in the training rows")


def test_rows_with_missing_values_are_dropped_or_completed_from_the_training_rows(tmp_path: Path) -> None:
    header = "x,kind\n"
    write(tmp_path, header + "1,a\n3,b\nNaN,a\n", "t/train.csv")
    write(tmp_path, header + ",a\n5,b\n", "t/test.csv")

    dropped, completed = (read(tmp_path, "t", missing=missing) for missing in ("drop", "mean"))

    assert (dropped.train_inputs.tolist(), dropped.test_inputs.tolist()) == ([[1], [3]], [[5]])
    assert (completed.train_inputs.tolist(), completed.test_inputs.tolist()) == ([[1], [3], [2]], [[2], [5]])
    assert "2 missing values in 'x': 2 rows were dropped" in [each.text for each in dropped.warnings]
    assert "2 missing values in 'x': the training rows' mean is taken" in [each.text for each in completed.warnings]


def test_numbers_that_are_names_are_categories_where_the_spec_says_so(tmp_path: Path) -> None:
    write(tmp_path, "postcode,id,kind\n" + "".join(f"0{row % 2},{row},{'ab'[row % 2]}\n" for row in range(20)))

    arrays = read(tmp_path, categories=["postcode"], leave_out=["id"])

    assert arrays.train_inputs.tolist() == [[1 - target, target] for target in arrays.train_targets.tolist()]
    assert json.loads(arrays.files["columns.json"])["columns"][0]["categories"] == ["00", "01"]


@pytest.mark.parametrize(
    "numbers",
    [
        range(1, 21),
        range(90, 50, -2),
        [1000 + row**2 for row in range(20)],
        [(row * 7) % 20 for row in range(20)],
        [f"{row}.0" if row % 5 else "" for row in range(20)],
    ],
    ids=["rising", "falling", "with gaps", "shuffled", "with missing ones"],
)
def test_numbers_that_only_count_the_rows_are_named(tmp_path: Path, numbers: Iterable[int | str]) -> None:
    lines = [f"{number},{'ab'[row % 2]},{row % 7}\n" for row, number in enumerate(numbers)]
    write(tmp_path, "id,kind,x\n" + "".join(lines))

    warned, chosen, without = (
        [each.text for each in read(tmp_path, missing="mean", **options).warnings if each.kind == "row_numbers"]
        for options in ({}, {"features": ["id", "x"]}, {"leave_out": ["id"]})
    )

    (text,) = warned
    assert text.startswith("column 'id' counts the rows, as far as one can see")
    assert text.endswith(": leave_out: [id]")
    assert [each.rpartition(": ")[2] for each in chosen] == ["take it out of features"]
    assert not without


@pytest.mark.parametrize(
    "numbers",
    [
        [row // 2 for row in range(20)],
        [row / 2 for row in range(20)],
        [(row * 7) % 20 * 3 for row in range(20)],
        [1e300 * row for row in range(20)],
    ],
    ids=["twice each", "fractions", "whole and in no order", "huge"],
)
def test_other_numbers_count_nothing(tmp_path: Path, numbers: list[float]) -> None:
    write(tmp_path, "x,kind\n" + "".join(f"{number},{'ab'[row % 2]}\n" for row, number in enumerate(numbers)))
    rows = read_rows(TableSpec(path="wine.csv", target="kind"), tmp_path / "wine.csv")

    assert not counts_rows(rows, "x")


def test_warnings_name_columns(tmp_path: Path) -> None:
    lines = [f"{row % 7},5,red,{'ab'[row % 2]}\n" for row in range(40)]
    write(tmp_path, "x,always,colour,kind\n" + "".join(lines))

    record = read(tmp_path).describe()

    texts = {each.kind: each.text for each in record.warnings}
    assert texts["constant_channels"].startswith("2 of 3 columns ('always', 'colour = red') are constant")


def test_european_tables_are_read(tmp_path: Path) -> None:
    text = "größe;kind\n" + "".join(f"{row},5;{('süß', 'herb')[row % 2]}\n" for row in range(20))
    write(tmp_path, text.encode("latin-1"))

    arrays = read(tmp_path, separator=";", decimal=",", encoding="latin-1")

    assert arrays.class_names == ("herb", "süß")
    assert sorted(np.concatenate((arrays.train_inputs, arrays.test_inputs))[:, 0]) == [row + 0.5 for row in range(20)]


def test_numbers_in_quotation_marks_may_have_commas_between_commas(tmp_path: Path) -> None:
    text = "x,kind\n" + "".join(f"'{row},5',{'ab'[row % 2]}\n" for row in range(20))
    write(tmp_path, text.replace("'", '"'))

    arrays = read(tmp_path, separator=",", decimal=",")

    assert sorted(np.concatenate((arrays.train_inputs, arrays.test_inputs))[:, 0]) == [row + 0.5 for row in range(20)]


def test_a_file_without_a_header_has_the_spec_s_names(tmp_path: Path) -> None:
    write(tmp_path, WINES.split("\n", 1)[1])

    arrays = read(tmp_path, columns=["a", "b", "c", "kind"], features=["a"])

    assert len(arrays.train_inputs) + len(arrays.test_inputs) == 20


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (changed(7, "11,,true,port"), {}, r"wine.csv, line 7: 'colour' is missing \(1 value in this file, in"),
        (changed(7, "11,red,true"), {}, r"wine.csv, line 7: 3 values, where there are 4 columns: '11,red,true'"),
        (changed(7, '11,"red,true,port'), {}, "wine.csv, line 7: a quotation mark is opened and never closed"),
        (changed(7, "?,red,true,port"), {}, r"line 7: 'alcohol' is '\?', and a number in most rows.*missing_marks"),
        (changed(7, "inf,red,true,port"), {}, "line 7: 'alcohol' is inf, which is more than float32 holds"),
        (WINES.replace("red", "Rosé").encode("latin-1"), {}, r"line 2: not utf-8 \(byte 36 .*encoding: latin-1"),
        (WINES, {"target": "knd"}, "dataset.target: wine.csv has no column 'knd'; did you mean 'kind'"),
        (WINES, {"features": ["alcohl"]}, "dataset.features: wine.csv has no column 'alcohl'; did you mean 'alcohol'"),
        (WINES, {"target": "alcohol"}, r"line 3: the target 'alcohol' is 10.25: numbers with fractions are a regress"),
        (WINES.replace("colour", "kind"), {}, "2 columns are called 'kind'"),
        (WINES.replace("colour", ""), {}, "a column has no name, as the index that pandas writes"),
        (WINES.replace(",", ";"), {}, "has one column, .*perhaps separator: ';'"),
        ("", {}, "wine.csv: is empty"),
        ("alcohol,kind\n", {}, "has the names of columns, and no rows"),
        (WINES.replace(",", ";").replace(".", ","), {}, "has one column, .*perhaps separator: ';'"),
        (b"PK\x03\x04" + bytes(90), {}, "is no text: it has bytes that are 0"),
        (WINES.encode("utf-16"), {}, r"line 1: not utf-8 \(byte 0 .*: perhaps encoding: utf-16$"),
        (
            WINES.replace("red", "").replace("white", ""),
            {},
            r"column 'colour' is empty in all rows: leave_out: \[colour",
        ),
        (WINES.replace("port", "cava"), {}, r"the target 'kind' has only one class \('cava'\)"),
        (WINES.replace("red", "2020-01-01").replace("white", "2021-01-01"), {}, "column 'colour' holds dates or times"),
        ("id,kind\n" + "".join(f"n{i},{'ab'[i % 2]}\n" for i in range(200)), {}, "'id' has 160 different texts"),
        ("x,kind\n" + "".join(f"{i},{i}\n" for i in range(50)), {}, "'kind' has 50 different values in 50 rows"),
        ("x,kind\n" + "".join(f"'{i},5',{'ab'[i % 2]}\n" for i in range(50)).replace("'", '"'), {}, "decimal: ','"),
        (
            "x,kind\n" + "".join(f"'{i},000',{'ab'[i % 2]}\n" for i in range(1, 50)).replace("'", '"'),
            {},
            "between thous",
        ),
        (
            "x,kind\n" + "".join(f"{i},{i % 2}\n" for i in range(50)) + "1,inf\n",
            {},
            "line 52: the target 'kind' is inf, too",
        ),
        (
            "x,kind\n" + "".join(f"{i},{2**64 - 1 - i % 2}\n" for i in range(50)),
            {},
            "the target 'kind' is 1.84467e.19, too",
        ),
    ],
)
def test_a_bad_table_has_one_message(tmp_path: Path, text: str | bytes, options: dict[str, Any], message: str) -> None:
    write(tmp_path, text)

    with pytest.raises(InvalidSpec, match=message):
        read(tmp_path, **options)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"a": 1, "kind": "x"}', '{"a": 2, "kind": '], "line 3: no JSON"),
        (
            ['{"a": 1, "kind": "x"}', '{"a": "two", "kind": "y"}'],
            "line 3: 'a' is text, and a number in line 1: \"two\"",
        ),
        (["[1, 2]"], "line 1: each line is to be an object"),
        (["[", '{"a": 1, "kind": "x"}', "]"], "line 1: no JSON .*: '\\['; each line is to be an object, and this file"),
        (['{"a": 1, "kind": "x"}', '{"a": 1, "a": 2, "kind": "x"}'], "line 3: has 'a' twice"),
        (['{"a": 1, "kind": "\\ud800"}'], "line 1: has half of a character"),
        (['{"a": ' + "[" * 500 + "]" * 500 + ', "kind": "x"}'], "column 'a' holds list<item: .{,60}…, which no cell"),
        (['{"a": {"b": 1}, "kind": "x"}'], "column 'a' holds struct<b: int64>, which no cell of a table is"),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path, "\n\n".join(lines), "wine.jsonl")

    with pytest.raises(InvalidSpec, match=message):
        read(tmp_path, "wine.jsonl")


def test_a_value_that_is_no_number_is_named_in_a_test_row_as_in_a_training_row(tmp_path: Path) -> None:
    for line in range(2, 12):
        write(tmp_path, changed(line, "n.a.,red,true,port"))

        with pytest.raises(InvalidSpec, match=f"line {line}: 'alcohol' is 'n.a.', and a number in most rows"):
            read(tmp_path)


def test_a_damaged_parquet_file_is_a_mistake_and_no_disk_that_is_away(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"x": range(40), "kind": ["a", "b"] * 20}), tmp_path / "wine.parquet")
    content = bytearray((tmp_path / "wine.parquet").read_bytes())
    content[4:200] = bytes(196)
    (tmp_path / "wine.parquet").write_bytes(content)

    with pytest.raises(InvalidSpec, match=r"wine\.parquet: the Parquet file is damaged: "):
        read(tmp_path, "wine.parquet")


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_whole_numbers_of_any_size_become_floats(tmp_path: Path, dtype: type[np.integer[Any]]) -> None:
    largest = np.iinfo(dtype).max
    columns = {"x": np.array([largest, 3] * 10, dtype), "kind": ["a", "b"] * 10}
    parquet.write_table(pa.table(columns), tmp_path / "wine.parquet")

    assert read(tmp_path, "wine.parquet").train_inputs.max() == np.float32(largest)


def test_what_differs_between_the_files_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, "x,kind\n1,a\n2,b\n", "t/train.csv")
    with pytest.raises(InvalidSpec, match=r"t: has no test.csv: a folder needs .*\(there: train.csv\)"):
        read(tmp_path, "t")
    write(tmp_path, "x,kind\n1,a\n", "t/test.tsv")
    with pytest.raises(InvalidSpec, match=r"test.tsv is of another format than train.csv"):
        read(tmp_path, "t")
    (tmp_path / "t/test.tsv").unlink()
    write(tmp_path, 'x,kind\n"1\n",a\nnone,b\n', "t/test.csv")
    with pytest.raises(InvalidSpec, match=r"t/test.csv, line 4: 'x' is 'none', and a number in the training rows"):
        read(tmp_path, "t")
    write(tmp_path, "x,kind\n1,a\n2,\n", "t/test.csv")
    with pytest.raises(InvalidSpec, match=r"t/test.csv, line 3: has no 'kind': only training rows may be without"):
        read(tmp_path, "t")


def test_held_out_samples_of_its_own_leave_no_room_for_a_share(tmp_path: Path) -> None:
    for part in ("train", "validation", "test"):
        write(tmp_path, WINES, f"t/{part}.csv")

    with pytest.raises(InvalidSpec, match="the data have validation samples already"):
        read(tmp_path, "t", validation=0.1)
    labelled = read(tmp_path, "t", labelled=4)

    assert (labelled.train_targets[:20] >= 0).sum() == 4
    assert (labelled.train_targets[20:] >= 0).all()
