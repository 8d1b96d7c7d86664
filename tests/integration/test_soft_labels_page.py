"""What docs/soft-labels.md says is so: its reader, its other blocks, its recipes and its commands."""

from __future__ import annotations

import ast
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import xxhash
from typer.testing import CliRunner

from distill_queue.scheduler.cli import main as cli
from distill_queue.shared.errors import ArtifactDamaged
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels, SoftLabelsHeader
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.unit.shared.soft_labels.test_soft_labels import ENCODINGS, IDS, logits, written

Array = npt.NDArray[Any]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "soft-labels.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
READER = next(block for block in PYTHON if "def read(" in block)
#: Lines of it, without empty ones, which the formatter sets.
LARGEST_READER = 15
ITEMS = {"float32": "f", "float16": "e", "uint8": "B", "uint16": "H", "uint32": "I"}


def with_ties(views: int, samples: int, classes: int) -> npt.NDArray[np.float32]:
    """Logits that are often equal, some of them by sign only."""
    values = np.round(3 * logits(views, samples, classes))
    values[:, ::3, :4] = -0.0
    values[:, 1] = 2.0
    return values


@pytest.fixture
def read() -> Callable[..., Array]:
    """The page's reader."""
    found: dict[str, Any] = {}
    exec(READER, found)
    return found["read"]


def test_the_reader_is_short_and_needs_numpy_only() -> None:
    imported = {
        name.name for node in ast.walk(ast.parse(READER)) if isinstance(node, ast.Import) for name in node.names
    }

    assert sum(line != "" for line in READER.splitlines()) <= LARGEST_READER
    assert imported <= {"json", "pathlib", "numpy"}
    assert "from " not in READER


@pytest.mark.parametrize("classes", [5, 300])
@pytest.mark.parametrize("values", [logits, with_ties], ids=["random", "with ties"])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_the_reader_gives_what_ours_gives(
    tmp_path: Path, read: Callable[..., Array], encoding: Encoding, values: Callable[..., Array], classes: int
) -> None:
    labels = written(tmp_path, values(3, 30, classes), encoding=encoding)
    samples = np.array([29, 0, 7, 7, 1, 3])

    for view in range(3):
        found, ours = read(labels.folder, samples, view), labels.batch(samples, view)
        assert (found.dtype, found.shape) == (np.float32, (6, classes))
        if encoding.top_k is None:
            np.testing.assert_array_equal(found, ours)
            continue
        indices, *_ = labels.stored(samples, view)
        kept = [np.take_along_axis(each, indices.astype(int), axis=1) for each in (found, ours)]
        np.testing.assert_array_equal(*kept)
        np.testing.assert_allclose(found, ours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_a_row_begins_where_the_page_says_and_is_little_endian(tmp_path: Path, encoding: Encoding) -> None:
    views, samples, classes = 2, 11, 300
    labels = written(tmp_path, 100 * logits(views, samples, classes), encoding=encoding)
    table = {
        "logits": (encoding.dtype, classes),
        "indices": ("uint16", encoding.top_k),
        "values": (encoding.dtype, encoding.top_k),
        "log_sum_exp": ("float32", 2),
        "scales": ("float32", 2),
    }

    columns = {path.stem: path.read_bytes() for path in labels.folder.glob("*.bin")}

    kept = ["logits"] if encoding.top_k is None else ["indices", "values", "log_sum_exp"]
    assert sorted(columns) == sorted(kept + (["scales"] if encoding.dtype == "uint8" else []))
    for column, of in zip(encoding.columns(classes), labels.columns, strict=True):
        dtype, width = table[column.name]
        row = struct.Struct(f"<{width}{ITEMS[dtype]}")
        assert len(columns[column.name]) == views * samples * row.size
        for view, sample in ((0, 0), (1, 4), (1, 10)):
            found = row.unpack_from(columns[column.name], (view * samples + sample) * row.size)
            assert list(found) == of[view, sample].tolist()


def test_the_table_of_the_header_has_every_field_and_no_other() -> None:
    table = PAGE.partition("| field of")[2].partition("\n\n")[0]

    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(SoftLabelsHeader.model_fields)


def checksum(data: bytes) -> str:
    return xxhash.xxh3_128(data, seed=0).digest().hex()


def header_checksum(header: dict[str, Any]) -> str:
    """By the page's rules, spelled out: without a field of its own, sorted, no spaces, ASCII."""
    facts = {name: value for name, value in header.items() if name != "checksum"}
    return checksum(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode("ascii"))


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_checksums_are_those_of_the_pages_recipe(tmp_path: Path, encoding: Encoding) -> None:
    names = ('"quoted"', "größer", "🎈\u007f/\n")
    labels = written(
        tmp_path, logits(2, 10, 3), encoding=encoding, class_names=names, augmentation={"mixup": 1e-7, "shift": 1}
    )
    header = json.loads((labels.folder / HEADER).read_bytes())
    order = ["logits"] if encoding.top_k is None else ["indices", "values", "log_sum_exp"]
    order += ["scales"] if encoding.dtype == "uint8" else []
    columns = [(labels.folder / f"{name}.bin").read_bytes() for name in order]

    found = []
    for view in range(2):
        for first in range(0, 10, header["block_rows"]):
            rows = range(view * 10 + first, view * 10 + min(first + header["block_rows"], 10))
            lengths = [len(column) // 20 for column in columns]
            found.append(
                checksum(
                    b"".join(
                        column[rows.start * length : rows.stop * length]
                        for column, length in zip(columns, lengths, strict=True)
                    )
                )
            )

    assert found == header["checksums"]
    assert header_checksum(header) == header["checksum"]


def encoded(values: Array, dtype: str, k: int | None) -> dict[str, Array]:
    """Columns `[rows, width]` of logits, by the page's tables and formulas and by nothing else."""
    columns: dict[str, Array] = {}
    if k:
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        columns["indices"] = order.astype("<u1" if values.shape[1] <= 256 else "<u2")
        rest = values.astype("f8")
        everything = np.logaddexp.reduce(rest, axis=1)
        inside = np.logaddexp.reduce(np.take_along_axis(rest, order, axis=1), axis=1)
        np.put_along_axis(rest, order, -np.inf, axis=1)
        values = np.take_along_axis(values, order, axis=1)
    stored: Array = values.astype({"float32": "<f4", "float16": "<f2", "uint8": "<f4"}[dtype])
    if dtype == "uint8":
        smallest, step = values.min(axis=1), (values.max(axis=1) - values.min(axis=1)) / np.float32(255)
        stored = np.rint((values - smallest[:, None]) / np.where(step > 0, step, 1)[:, None]).astype("u1")
    columns["values" if k else "logits"] = stored
    if k:
        columns["log_sum_exp"] = np.stack([everything, np.logaddexp.reduce(rest, axis=1) - inside], axis=1).astype(
            "<f4"
        )
    if dtype == "uint8":
        columns["scales"] = np.stack([smallest, step], axis=1).astype("<f4")
    return columns


def write_by_the_page(folder: Path, values: Array, dtype: str, k: int | None, block_rows: int) -> None:
    """A cache that no line of ours has written."""
    views, samples, classes = values.shape
    columns = encoded(values.reshape(-1, classes), dtype, k)
    folder.mkdir()
    for name, column in columns.items():
        (folder / f"{name}.bin").write_bytes(column.tobytes())
    starts = [(view * samples, first) for view in range(views) for first in range(0, samples, block_rows)]
    header = {
        "format": "distill-soft-labels",
        "version": 2,
        "views": views,
        "samples": samples,
        "class_names": [f"class {number}" for number in range(classes)],
        "encoding": {"dtype": dtype, "top_k": k},
        "dataset_key": "",
        "teacher_key": "",
        "augmentation": {},
        "augmentation_fingerprint": "",
        "block_rows": block_rows,
        "checksums": [
            checksum(b"".join(column[of + first : of + min(first + block_rows, samples)].tobytes()
                              for column in columns.values()))
            for of, first in starts
        ],
    }  # fmt: skip
    (folder / HEADER).write_text(json.dumps(header | {"checksum": header_checksum(header)}))


@pytest.mark.parametrize("classes", [5, 300])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_what_another_program_writes_by_the_page_is_read_by_ours(
    tmp_path: Path, encoding: Encoding, classes: int
) -> None:
    values = np.concatenate([with_ties(1, 10, classes), logits(1, 10, classes)])

    write_by_the_page(tmp_path / "theirs", values, encoding.dtype, encoding.top_k, block_rows=4)

    theirs = SoftLabels.open(tmp_path / "theirs")
    theirs.verify()
    ours = written(tmp_path / "ours", values, encoding=encoding)
    for view in range(2):
        rows = np.arange(10)
        np.testing.assert_allclose(theirs.batch(rows, view), ours.batch(rows, view), rtol=1e-5, atol=1e-5)
        if encoding.top_k:
            np.testing.assert_array_equal(theirs.stored(rows, view)[0], ours.stored(rows, view)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"version": 1},
        {"format": "soft-labels"},
        {"more": 1},
        {"checksums": ["0" * 32]},
        {"samples": 21},
        {"encoding": {"dtype": "float32", "top_k": 3}},
        {"class_names": ["one"]},
    ],
    ids=str,
)
def test_what_a_reader_must_refuse_ours_refuses_with_a_right_checksum_too(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    folder = written(tmp_path, logits()).folder
    header = json.loads((folder / HEADER).read_bytes()) | change
    (folder / HEADER).write_text(json.dumps(header | {"checksum": header_checksum(header)}))

    with pytest.raises(ArtifactDamaged):
        SoftLabels.open(folder)


@pytest.mark.parametrize("block", [block for block in PYTHON if block is not READER], ids=["our reader", "a loader"])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_the_pages_other_blocks_run(tmp_path: Path, encoding: Encoding, block: str) -> None:
    folder = written(tmp_path, logits(1, 600, 5), encoding=encoding).folder

    exec(block, {"folder": folder})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the soft labels of the quickstart, which the page's first command would make."""
    folder = tmp_path_factory.mktemp("store")
    for stage in Plan.of(PipelineSpec.load(ROOT / "examples" / "quickstart.yaml")).trunk:
        StageRunner(FolderStore(folder), Runtime(torch.device("cpu")), lambda *_: None).run(stage)
    return folder


def test_every_command_works_as_printed(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_STORE", str(store))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = [line.partition("#")[0].split() for line in block.splitlines()]

    results = [CliRunner().invoke(cli.app, words[1:]) for words in lines if words[1] != "run"]

    for words, result in zip(lines[1:], results, strict=True):
        assert result.exit_code == 0, f"{' '.join(words)}: {result.output}{result.exception}"
    assert lines[0] == ["distill", "run", "examples/quickstart.yaml"]
    assert {words[2] for words in lines if words[1] == "labels"} == {
        command.name or command.callback.__name__ for command in cli.labels.app.registered_commands
    }
    (verified,) = (result.output for words, result in zip(lines[1:], results, strict=True) if "--rows" in words)
    shown = "✓" + PAGE.partition("```\n✓")[2].partition("```")[0]
    assert what_is_checked(verified) == what_is_checked(shown)


def what_is_checked(output: str) -> list[str]:
    """The lines of `verify` without their figures."""
    return [line.partition(":")[0] for line in output.splitlines()]


def test_the_key_in_the_commands_is_that_of_the_quickstart() -> None:
    plan = Plan.of(PipelineSpec.load(ROOT / "examples" / "quickstart.yaml"))

    assert set(re.findall(r"\b[0-9a-f]{8}\b", PAGE)) == {plan.trunk[-1].ref.short_key}


def test_every_test_that_the_page_names_is_there() -> None:
    table = PAGE.partition("## How other caches broke")[2]
    named = re.findall(r"`(?:(test_\w+)\.py: )?(test_\w+)`", table)

    assert len(named) > 20
    for file, name in named:
        (test,) = (ROOT / "tests").rglob(f"{file or 'test_cache_anchors'}.py")
        text = test.read_text()
        assert f"def {name}(" in text, name


def test_the_bytes_in_the_table_are_those_of_the_encodings() -> None:
    for name, encoding, classes in (
        ("dense float32", Encoding(dtype="float32"), 1_000),
        ("dense float16", Encoding(dtype="float16"), 1_000),
        ("dense uint8", Encoding(dtype="uint8"), 1_000),
    ):
        assert re.search(rf"\| {name} \|.*\| {encoding.row_bytes(classes):,} \|", PAGE), name
    for dtype, k, classes in (("float16", 3, 10), ("float16", 10, 1_000), ("float16", 50, 1_000), ("uint8", 50, 1_000)):
        size = Encoding(dtype=dtype, top_k=k).row_bytes(classes)
        assert re.search(rf"\| top k {dtype} \|.*k = {k}: {size}\b", PAGE), (dtype, k)
