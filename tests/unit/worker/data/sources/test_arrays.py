"""Arrays in files: what is taken, under which names, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from distill_queue.shared.errors import InvalidSpec, StageFailed
from distill_queue.shared.spec.sources.arrays import ArraysSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

INPUTS = np.random.default_rng(0).integers(0, 255, (50, 1, 4, 4), dtype=np.uint8)
TARGETS = np.arange(50) % 5
WITH_A_TEST_SET: dict[str, Any] = {
    "x_train": INPUTS,
    "y_train": TARGETS,
    "x_test": INPUTS[:20],
    "y_test": TARGETS[:20],
}


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Arrays]:
    """Read what lies at a path of the folder of data."""
    runtime = Runtime(torch.device("cpu"), data=(tmp_path,), digests=tmp_path / ".contents")
    return lambda path, **options: load(ArraysSpec(path=path, **options), Reading(runtime))


def write(folder: Path, form: str, arrays: dict[str, Any]) -> str:
    match form:
        case "npz":
            np.savez_compressed(folder / "digits.npz", **arrays)
            return "digits.npz"
        case "safetensors":
            save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, folder / "d.safetensors")
            return "d.safetensors"
    (folder / "digits").mkdir()
    for name, array in arrays.items():
        np.save(folder / "digits" / f"{name}.npy", array)
    return "digits"


@pytest.mark.parametrize("form", ["npz", "safetensors", "npy"])
def test_arrays_are_read_in_each_format_by_their_usual_names(
    tmp_path: Path, read: Callable[..., Arrays], form: str
) -> None:
    arrays = read(write(tmp_path, form, WITH_A_TEST_SET | {"unlabelled_inputs": INPUTS[:7]}))

    assert (arrays.train_inputs == np.concatenate((INPUTS, INPUTS[:7]))).all()
    assert arrays.train_targets.tolist() == [*TARGETS.tolist(), *[-1] * 7]
    assert (arrays.test_inputs == INPUTS[:20]).all()
    assert arrays.class_names == ("0", "1", "2", "3", "4")
    assert len(arrays.describe().content or "") == 64


def test_a_fifth_of_every_class_is_kept_for_testing(tmp_path: Path, read: Callable[..., Arrays]) -> None:
    path = write(tmp_path, "npz", {"X": INPUTS, "y": TARGETS, "class_names": np.array(list("abcde"))})

    arrays = read(path)

    assert np.bincount(arrays.train_targets).tolist() == [8] * 5
    assert np.bincount(arrays.test_targets).tolist() == [2] * 5
    assert arrays.class_names == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": INPUTS}, r"no array 'train_targets' \(found: x_train; wanted: train_inputs, "),
        ({"a": INPUTS}, r"no array 'train_inputs' \(found: a; wanted"),
        (WITH_A_TEST_SET | {"train_inputs": INPUTS}, "train_inputs and x_train are two names of one array"),
        ({"x": INPUTS, "y": TARGETS[:-1]}, "50 inputs and 49 targets"),
        ({"x": INPUTS, "y": TARGETS * 10**12}, "a target is 4,000,000,000,000, with 40 samples"),
        ({"x": INPUTS, "y": TARGETS * 0}, "all targets are 0: a classification needs two classes"),
        ({"x": INPUTS, "y": TARGETS[:, None]}, r"not int64 \[50, 1\]: of one column take .ravel\(\)"),
        ({"x": INPUTS, "y": TARGETS > 2}, r"not bool \[50\]: take .astype\(int\)"),
        ({"x": INPUTS, "y": np.array(list("abcde"))[TARGETS]}, "class_names, targets = np.unique"),
        (
            {"x": np.where(TARGETS == 3, np.inf, 1.0)[:, None], "y": TARGETS},
            "an input is not finite, .*: row 3 has inf",
        ),
        ({"x": INPUTS.astype(">f4"), "y": TARGETS}, "in the order of bytes of another machine"),
        ({"x": np.array(1.0), "y": TARGETS}, r"inputs must be \[samples, ...\], not a single value of float64"),
        (WITH_A_TEST_SET | {"y_test": TARGETS[:20] / 2}, r"test targets must be whole numbers .* row 1 is 0.5"),
    ],
)
def test_arrays_that_are_no_data_set_are_refused(
    tmp_path: Path, read: Callable[..., Arrays], arrays: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSpec, match=f"^digits.npz: .*{message}"):
        read(write(tmp_path, "npz", arrays))


@pytest.mark.parametrize(
    ("name", "bytes_", "message"),
    [
        ("a.npz", b"PK\x03\x04 rubbish", "a.npz: "),
        ("a.safetensors", b"\x10", "a.safetensors: "),
        ("a.csv", b"1,2", r"a.csv: arrays are read from .npz and .safetensors files, and folders of .npy files"),
    ],
)
def test_rubbish_is_refused_by_its_name(
    tmp_path: Path, read: Callable[..., Arrays], name: str, bytes_: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(bytes_)

    with pytest.raises(InvalidSpec, match=f"^{message}"):
        read(name)


def test_pickled_objects_are_never_read(tmp_path: Path, read: Callable[..., Arrays]) -> None:
    np.savez(tmp_path / "a.npz", inputs=np.array([{}], dtype=object), targets=TARGETS)

    with pytest.raises(InvalidSpec, match=r"^a.npz: inputs.npy: holds Python's objects, which are not read"):
        read("a.npz")


def test_other_data_than_were_submitted_are_refused(tmp_path: Path, read: Callable[..., Arrays]) -> None:
    path = write(tmp_path, "npz", WITH_A_TEST_SET)

    with pytest.raises(StageFailed, match=r"digits.npz is not what was submitted"):
        read(path, content="0" * 64)


def test_a_worker_without_folders_of_data_reads_no_path() -> None:
    with pytest.raises(InvalidSpec, match=r"a.npz: this worker reads no files: DISTILL_DATA is to name the folders"):
        load(ArraysSpec(path="a.npz"), Reading(Runtime(torch.device("cpu"))))


def test_what_a_worker_does_not_have_is_named_with_its_folders(tmp_path: Path, read: Callable[..., Arrays]) -> None:
    with pytest.raises(InvalidSpec, match=rf"a.npz is not in {tmp_path} \(DISTILL_DATA\) on this worker"):
        read("a.npz")
