"""Soft labels from and for other programs."""

from __future__ import annotations

import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from distill_queue.scheduler.labels.caches import import_file
from distill_queue.shared.errors import DistillError, InvalidInput, InvalidSettings, InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import label_file_ref
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.label_file import LabelFile, export
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.properties import examples
from tests.unit.shared.soft_labels.test_soft_labels import ENCODINGS, IDS, logits, written

MakeSpec = Callable[..., PipelineSpec]
CPU = Runtime(torch.device("cpu"))
FACTS = {"class_names": ["a", "b", "c"], "dataset_key": "d" * 64, "augmentation": {"shift": 1}}


def save(path: Path, values: npt.NDArray[Any], facts: dict[str, Any] | None = None, **more: Any) -> Path:
    if path.suffix == ".npz":
        given = {} if facts is None else {"facts": np.array(json.dumps(facts))}
        np.savez(path, logits=values, **given, **more)
    else:
        save_file({"logits": values}, path, None if facts is None else {"facts": json.dumps(facts)})
    return path


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_a_cache_comes_back_from_a_file_as_it_was_decoded(tmp_path: Path, encoding: Encoding, suffix: str) -> None:
    facts = {"augmentation": {"shift": 1}, "augmentation_fingerprint": "ab"}
    labels = written(tmp_path / "first", logits(2, 20), encoding=encoding, **facts)
    path = tmp_path / f"labels{suffix}"

    export(labels, path)
    back = import_file(path, tmp_path / "second", Encoding(dtype="float32"))

    back.verify()
    for view in range(2):
        np.testing.assert_array_equal(back.batch(np.arange(20), view), labels.batch(np.arange(20), view))
    same = {"views", "samples", "class_names", "dataset_key", "teacher_key", *facts}
    assert back.header.model_dump(include=same) == labels.header.model_dump(include=same)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["first", "second", path.name])


SHAPES = arrays.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=9)


@examples(30)
@given(
    values=arrays.arrays(np.float32, SHAPES, elements=st.floats(-9, 9, width=32)),
    suffix=st.sampled_from([".npz", ".safetensors"]),
)
def test_any_logits_go_round(tmp_path_factory: pytest.TempPathFactory, values: Any, suffix: str) -> None:
    whole = values if values.ndim == 3 else values[None]
    # Rows that add up to one are refused as probabilities, which a test below sees to.
    assume((whole[0] < 0).any() or (np.abs(whole[0].sum(axis=1, dtype=np.float64) - 1.0) > 0.1).any())
    folder = tmp_path_factory.mktemp("file")

    labels = import_file(save(folder / f"x{suffix}", values), folder / "cache", Encoding(dtype="float32"))

    np.testing.assert_array_equal([labels.batch(slice(None), view) for view in range(len(whole))], whole)


def test_a_compressed_file_and_names_of_classes_are_read(tmp_path: Path) -> None:
    values = logits()[0]
    np.savez_compressed(tmp_path / "x.npz", logits=values, class_names=np.array(["x", "y", "z"]))

    labels = import_file(tmp_path / "x.npz", tmp_path / "cache", Encoding(dtype="float32"))

    assert labels.header.class_names == ("x", "y", "z")
    np.testing.assert_array_equal(labels[:], values)


def rubbish(path: Path, kind: str) -> Path:
    values = logits()[0]
    match kind:
        case "no zip":
            path.write_bytes(b"rubbish")
        case "empty":
            path.write_bytes(b"")
        case "no logits":
            np.savez(path, probabilities=values)
        case "pickle":
            np.savez(path, logits=np.array([[{}, {}]], dtype=object))
        case "a vector":
            np.savez(path, logits=values[0])
        case "whole numbers":
            np.savez(path, logits=values.astype(int))
        case "no rows":
            np.savez(path, logits=values[:0])
        case "Fortran":
            np.savez(path, logits=np.asfortranarray(values))
        case "not finite":
            np.savez(path, logits=np.where(values == values[3, 1], np.nan, values))
        case "names":
            np.savez(path, logits=values, class_names=np.array(["a", "b"]))
        case "facts":
            np.savez(path, logits=values, facts=np.array("[1]"))
        case "facts beside names":
            np.savez(path, logits=values, facts=np.array("[1]"), class_names=np.array(["a", "b", "c"]))
        case "probabilities":
            np.savez(path, logits=np.exp(values) / np.exp(values).sum(axis=1, keepdims=True))
        case "facts of another type":
            np.savez(path, logits=values, facts=np.array(json.dumps({"dataset_key": 3})))
        case "pickled facts":
            np.savez(path, logits=values, facts=np.array({}, dtype=object))
        case "cut off":
            np.savez(path, logits=values)
            path.write_bytes(path.read_bytes()[:-200])
        case "cut off inside":
            np.savez(path.with_suffix(".whole.npz"), logits=values)
            with zipfile.ZipFile(path.with_suffix(".whole.npz")) as whole, zipfile.ZipFile(path, "w") as cut:
                cut.writestr("logits.npy", whole.read("logits.npy")[:-5])
            path.with_suffix(".whole.npz").unlink()
        case "its list leads before the file":
            np.savez(path, logits=values)
            end = path.read_bytes().rindex(b"PK\5\6")
            data = bytearray(path.read_bytes())
            data[end + 12 : end + 20] = (8).to_bytes(4, "little") + (2**31).to_bytes(4, "little")
            path.write_bytes(data)
        case "a member lies elsewhere":
            np.savez(path, logits=values)
            with zipfile.ZipFile(path, "a") as archive:
                archive.writestr("more", b"")
                archive.filelist[0].header_offset = 2**62
        case "logits of 10^15 samples":
            pack(path, logits=header_of((10**15, 3), "<f4") + values.tobytes())
        case "facts of 10^15 letters":
            pack(path, logits=as_file(values), facts=header_of((10**15,), "<U4"))
        case "a bomb":
            pack(
                path, sizes={"logits": 128 + 4 * 400_000_000}, logits=header_of((1, 400_000_000), "<f4") + bytes(9_999)
            )
        case "a bomb of facts":
            pack(path, sizes={"facts": 1_500_000_000}, logits=as_file(values), facts=header_of((1,), "<U375000000"))
        case "a bomb of names":
            pack(path, logits=as_file(values), class_names=header_of((3_900_000, 0), "<U1") + bytes(15_600_000))
        case "names of no letters":
            names = header_of((3,), "<U1") + np.array([1, 0x110000, 2], "<u4").tobytes()
            pack(path, logits=as_file(values), class_names=names)
        case "packed by another method":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
                archive.writestr("logits.npy", as_file(values))
        case "many members":
            pack(path, logits=as_file(values), **{f"{'x' * 30_000}{number}": b"" for number in range(40)})
        case "a header too deep":
            pack(path, logits=b"\x93NUMPY\1\0\x10\x27" + b"(" * 300 + b" " * 9_700 + values.tobytes())
        case "a folder":
            path.mkdir()
        case "a pipe":
            os.mkfifo(path)
        case "a link to a device":
            path.symlink_to("/dev/zero")
        case "a link to itself":
            path.symlink_to(path)
    return path


def as_file(values: npt.NDArray[Any]) -> bytes:
    np.save(buffer := io.BytesIO(), values)
    return buffer.getvalue()


def header_of(shape: tuple[int, ...], dtype: str) -> bytes:
    np.lib.format.write_array_header_1_0(
        buffer := io.BytesIO(), {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def pack(path: Path, sizes: dict[str, int] | None = None, **members: bytes) -> None:
    """Write an archive of such members; its list may claim other sizes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
        for name, size in (sizes or {}).items():
            archive.getinfo(f"{name}.npy").file_size = size


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no zip", "no soft labels"),
        ("empty", "no soft labels"),
        ("no logits", "no array 'logits' (found: probabilities)"),
        ("pickle", "logits (1, 2) of object are not 155 bytes"),
        ("a vector", "[samples, classes] or [views, samples, classes], not (3,)"),
        ("whole numbers", "floating point numbers, not int64"),
        ("no rows", "not (0, 3)"),
        ("Fortran", "in Fortran's order"),
        ("not finite", "sample 3 of view 0 has a logit that is not finite"),
        ("names", "2 class names, and logits of 3 classes"),
        ("facts", "facts"),
        ("facts beside names", "facts are no JSON object"),
        ("probabilities", "its rows are probabilities: give their logarithms"),
        ("facts of another type", "dataset_key"),
        ("pickled facts", "no soft labels"),
        ("cut off", "no soft labels"),
        ("cut off inside", "logits (10, 3) of float32 are not 115 bytes"),
        ("its list leads before the file", "no soft labels: a damaged zip archive"),
        ("a member lies elsewhere", "no soft labels"),
        ("logits of 10^15 samples", "logits (1000000000000000, 3) of float32 are not 120 bytes"),
        ("facts of 10^15 letters", "no soft labels: facts does not fit its header"),
        ("a bomb", "logits of 400,000,000 classes: 4,194,304 are the most"),
        ("a bomb of facts", "no soft labels: facts is larger than 16,000,000 bytes"),
        ("a bomb of names", "no soft labels: class_names does not fit its header"),
        ("names of no letters", "class_names has numbers that are no characters"),
        ("packed by another method", "its member 'logits.npy' is packed in a way that NumPy never uses"),
        ("many members", "the list of its members is longer than 1,000,000 bytes"),
        ("a header too deep", "no soft labels"),
        ("a folder", "a folder, not a file"),
        ("a pipe", "a pipe, not a file"),
        ("a link to a device", "a device, not a file"),
        ("a link to itself", "Too many levels of symbolic links"),
    ],
)
def test_a_file_that_cannot_be_used_gives_one_error_and_no_cache(tmp_path: Path, kind: str, message: str) -> None:
    path = rubbish(tmp_path / "x.npz", kind)

    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as raised:
            import_file(path, tmp_path / "cache", Encoding(dtype="float32"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert peak < 50_000_000
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


def tensors(header: str | dict[str, Any], *, length: int | None = None, data: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


FLOATS = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\0\0\0\0\0\0\0{}      ",
        b"rubbish" * 9,
        tensors({"logits": FLOATS}, length=2**63, data=bytes(24)),
        tensors({"logits": FLOATS, "more": FLOATS}, data=bytes(24)),
        tensors({"logits": FLOATS | {"dtype": "F1"}}, data=bytes(24)),
        tensors({"logits": FLOATS | {"shape": [10**15, 3]}}, data=bytes(24)),
        tensors({"logits": FLOATS | {"shape": [2**62, 2**62]}}, data=bytes(24)),
        tensors({"logits": FLOATS | {"data_offsets": [24, 0]}}, data=bytes(24)),
        tensors({"logits": FLOATS}, data=bytes(23)),
        tensors("[" * 9_000),
        tensors(" " * 20_000_001),
    ],
    ids=range(12),
)
def test_a_safetensors_file_that_is_none_gives_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)

    with (
        pytest.raises(InvalidSpec, match=r"no soft labels|no tensor 'logits'"),
        LabelFile.open(tmp_path / "x.safetensors"),
    ):
        pass


def test_nothing_is_written_over(tmp_path: Path) -> None:
    labels = written(tmp_path / "cache", logits())

    with pytest.raises(InvalidSettings, match="is there already"):
        import_file(save(tmp_path / "x.npz", logits()[0]), tmp_path / "cache", Encoding(dtype="float32"))
    with pytest.raises(InvalidSettings, match=r"\.npz and \.safetensors"):
        export(labels, tmp_path / "x.csv")
    with pytest.raises(InvalidSettings, match="No such file"):
        export(labels, tmp_path / "nowhere" / "x.npz")


def run_with(spec: PipelineSpec, path: Path, folder: Path) -> dict[str, Any]:
    """Each stage's record of a pipeline whose teacher is a file."""
    store, ref = FolderStore(folder), label_file_ref(path)
    with store.draft(ref) as draft:
        (draft / f"labels{path.suffix}").write_bytes(path.read_bytes())
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)
    return {stage.title: StageRunner(store, CPU, lambda *_: None).run(stage) for stage in Plan.of(spec).stages}


@pytest.fixture(scope="module")
def targets() -> npt.NDArray[np.int64]:
    """The labels of the training samples of `digits`."""
    from distill_queue.shared.spec.sources.named import NamedDatasetSpec
    from distill_queue.worker.data import load as data

    return data.load(NamedDatasetSpec(name="digits"), Reading(CPU)).train_targets


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_teacher_that_cannot_run_here_teaches(
    make_spec: MakeSpec, tmp_path: Path, targets: npt.NDArray[np.int64], suffix: str
) -> None:
    values = 8.0 * np.eye(10, dtype=np.float32)[targets] + np.random.default_rng(0).normal(size=(1438, 10)).astype("f4")
    path = save(tmp_path / f"labels{suffix}", values)
    spec = make_spec(teacher={"soft_labels": str(path)}, soft_labels={"dtype": "float32", "top_k": 4})

    artifacts = run_with(spec, path, tmp_path / "store")

    labels, report = (artifacts[title].record for title in (f"import soft labels from labels{suffix}", "report"))
    assert isinstance(labels, SoftLabelsRecord)
    assert labels.accuracy == 1.0
    stored = SoftLabels.open(artifacts[f"import soft labels from labels{suffix}"].folder)
    np.testing.assert_array_equal(stored[:].argmax(1), values.argmax(1))
    assert isinstance(report, ReportRecord)
    assert report.teacher is None
    (student,) = report.students
    assert student.gain is not None
    assert (student.gap_closed, student.student.agreement) == (None, None)
    assert report.summary.startswith("small ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 1437}, "labels of 1,437 samples, and the pipeline has 1,438"),
        ({"classes": 9}, "labels of 9 classes, and the pipeline has 10"),
        ({"views": 2}, "labels of 2 views, and the pipeline has 1"),
        ({"facts": {"dataset_key": "a" * 64}}, "labels of data set aaaaaaaa, not of "),
        ({"facts": {"class_names": [str(9 - i) for i in range(10)]}}, "its classes are 9, 8, 7, 6, 5 …"),
        ({"facts": {"augmentation": {"shift": 1}}}, "labels of views by {'shift': 1}, and the pipeline's are by none"),
        (
            {"shuffle": True},
            "no more than by chance: are the rows in the order of the training samples",
        ),
    ],
)
def test_labels_that_are_not_of_these_samples_are_refused(
    make_spec: MakeSpec, tmp_path: Path, targets: npt.NDArray[np.int64], change: dict[str, Any], message: str
) -> None:
    values = 8.0 * np.eye(10, dtype=np.float32)[targets]
    if "shuffle" in change:
        values = values[np.random.default_rng(0).permutation(len(values))]
    values = values[: change.get("rows", 1438), : change.get("classes", 10)]
    if "views" in change:
        values = np.stack([values, values])
    path = save(tmp_path / "labels.npz", np.ascontiguousarray(values), change.get("facts"))

    with pytest.raises(DistillError) as raised:
        run_with(make_spec(teacher={"soft_labels": str(path)}), path, tmp_path / "store")

    assert isinstance(raised.value, InvalidSpec)
    assert message in str(raised.value)
