"""The user's own data: what is taken, and what is refused with one error that says what is wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

CPU = Runtime(torch.device("cpu"), plugins=("mine",))
INPUTS = np.random.default_rng(0).normal(size=(40, 1, 4, 4)).astype(np.float32)
TARGETS = np.arange(40) % 3

#: Makes a function the user's own, as `mine:data`.
Given = Callable[[Callable[[], Any]], None]


def data(**changes: Any) -> dict[str, Any]:
    return {"train": (INPUTS, TARGETS), "test": (INPUTS[:9], TARGETS[:9])} | changes


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Given:
    """Have `mine:data` be a function."""

    def give(function: Callable[[], Any]) -> None:
        module = ModuleType("mine")
        function.__module__, module.data = "mine", function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "mine", module)

    return give


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "must return a dictionary"),
        (data(train=(INPUTS, TARGETS.astype(str))), r"mine:data: "),
        (
            data(train=(INPUTS, np.where(TARGETS == 2, 0.5, TARGETS))),
            r"train targets must be whole numbers \[samples\] from 0 on, or -1 where a sample has no label: row 2 is "
            r"0.5 \(of float64 \[40\]\)",
        ),
        (data(train=(INPUTS, np.where(TARGETS == 2, np.nan, TARGETS))), r"row 2 is nan \(of float64 \[40\]\)"),
        (data(train=(INPUTS, np.eye(3)[TARGETS])), r"not float64 \[40, 3\]: of one row a sample take .argmax\(1\)"),
        (data(train=(INPUTS[:0], TARGETS[:0])), r"train targets must be whole numbers .*, not int64 \[0\]"),
        (data(train=(INPUTS, TARGETS > 0)), r"train targets must be whole numbers .*, not bool \[40\]"),
        (data(train=(INPUTS[:-1], TARGETS)), "train has 39 inputs and 40 targets"),
        (data(train=(INPUTS, TARGETS - 3)), r"train targets must be whole numbers .*: row 0 is -3 \(of int64 \[40\]\)"),
        (
            data(test=(INPUTS[:9], TARGETS[:9] - 1)),
            r"test targets must be whole numbers \[samples\] from 0 on: row 0 is -1",
        ),
        (data(test=(INPUTS[:3], [0, None, 1])), r"test targets must be whole numbers .*, not object \[3\]"),
        (
            data(train=(INPUTS, np.full(40, -1))),
            "train targets are all -1: a classification needs samples with a label",
        ),
        (
            data(train=(INPUTS, TARGETS + 5), class_names=("a", "b")),
            "a train target is outside of the 2 classes: row 0 is 5",
        ),
        (
            data(train=([*INPUTS[:7], *INPUTS[7:, :, :3]], TARGETS)),
            r"train inputs have 2 shapes: sample 0 is \[1, 4, 4\], sample 7 is \[1, 3, 4\]: make them one",
        ),
        (
            data(train=([*map(torch.from_numpy, (INPUTS[0], *INPUTS[:39, 0]))], TARGETS)),
            r"train inputs have 2 shapes: sample 0 is \[1, 4, 4\], sample 1 is \[4, 4\]",
        ),
        (data(train=(INPUTS, TARGETS * 10**9)), "a target is 2,000,000,000, with 40 samples"),
        (data(train=(INPUTS, [None] * 40)), "train targets are all -1"),
        (data(train=(INPUTS.astype(">f4"), TARGETS)), "train inputs must be numbers"),
        (data(train=(INPUTS[:, :0], TARGETS)), "train inputs must be numbers"),
        (
            data(train=(INPUTS * np.float64(1e300), TARGETS)),
            "a train input is not finite, or larger than float32 holds",
        ),
        (data(train=(np.full_like(INPUTS, np.nan), TARGETS)), "a train input is not finite, .*: row 0 has nan"),
        (data(train=(np.array(["a"] * 40), TARGETS)), "train inputs must be numbers"),
        (data(train=(np.arange(40.0), TARGETS)), "train inputs must be numbers"),
        (data(test=(INPUTS[:9, :, :2], TARGETS[:9])), "a training sample and a test sample differ"),
        (data(test=(INPUTS[:9].astype(np.float64), TARGETS[:9])), "a training sample and a test sample differ"),
        (data(class_names=("a", "a", "b")), "two classes have one name"),
        (data(class_names=(0, 1, 2)), "class_names must be two or more texts"),
        (
            data(train=(INPUTS,)),
            r"mine:data: train: must be \(inputs, targets\), a Dataset or a generator, not 1 things",
        ),
        (data(train=INPUTS), "train: must be .*, not ndarray"),
    ],
)
def test_data_that_are_no_classification_are_refused(given: Given, returned: Any, message: str) -> None:
    given(lambda: returned)

    with pytest.raises(InvalidSpec, match=message):
        load(NamedDatasetSpec(name="mine:data"), Reading(CPU))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint64, np.float16, np.float64])
def test_targets_of_any_type_of_numbers_are_taken(given: Given, dtype: Any) -> None:
    given(lambda: data(train=(INPUTS, TARGETS.astype(dtype))))

    assert load(NamedDatasetSpec(name="mine:data"), Reading(CPU)).train_targets.tolist() == TARGETS.tolist()


@pytest.mark.parametrize("none", [-1, None])
def test_training_samples_without_a_label_are_counted_and_never_held_out(
    tmp_path: Path, given: Given, none: int | None
) -> None:
    targets = [none if row % 4 == 3 else row % 3 for row in range(40)]
    given(lambda: data(train=(INPUTS, targets)))
    labels = np.array([-1 if each is None else each for each in targets])

    arrays = load(NamedDatasetSpec(name="mine:data", validation=0.2), Reading(CPU))
    record = arrays.save(tmp_path)
    fewer = load(NamedDatasetSpec(name="mine:data", labelled=12), Reading(CPU))

    assert (record.classes, record.train_samples, record.labelled_samples) == (3, 34, 24)
    assert record.summary == "34 + 9 samples, 3 classes, 24 with a label"
    assert (np.load(tmp_path / "validation_targets.npy") >= 0).all()
    kept = (fewer.train_targets >= 0).nonzero()[0]
    assert (fewer.train_targets[kept] == labels[kept]).all()
    assert np.bincount(fewer.train_targets[kept]).tolist() == [4, 4, 4]
    with pytest.raises(InvalidSpec, match=r"dataset.labelled: 31 of 30 training samples that have a label"):
        load(NamedDatasetSpec(name="mine:data", labelled=31), Reading(CPU))


class Points(Dataset[Any]):
    """Samples of two inputs, one by one."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return {"ids": torch.arange(number, number + 3), "mask": np.array([True, False, True])}, number % 3


def test_a_dataset_of_torch_is_read_one_sample_after_the_other(given: Given, tmp_path: Path) -> None:
    given(lambda: {"train": Points(30), "test": Points(9)})

    arrays = load(NamedDatasetSpec(name="mine:data"), Reading(CPU, tmp_path))

    assert arrays.train_inputs["ids"][7].tolist() == [7, 8, 9]
    assert arrays.train_inputs["mask"].dtype == bool
    assert arrays.train_targets.tolist() == [number % 3 for number in range(30)]
    assert isinstance(arrays.train_inputs.base, np.memmap)


def test_a_generator_may_leave_labels_out(given: Given, tmp_path: Path) -> None:
    given(lambda: data(train=((image, None if row < 5 else row % 3) for row, image in enumerate(INPUTS))))

    arrays = load(NamedDatasetSpec(name="mine:data"), Reading(CPU, tmp_path))

    assert (arrays.train_inputs == INPUTS).all()
    assert arrays.train_targets[:6].tolist() == [-1] * 5 + [2]


def test_images_of_pillow_have_their_channels_first(given: Given, tmp_path: Path) -> None:
    images = [Image.new("RGB", (5, 4), (row, 0, 7)) for row in range(9)]
    given(lambda: {split: ((image, row % 3) for row, image in enumerate(images)) for split in ("train", "test")})

    arrays = load(NamedDatasetSpec(name="mine:data"), Reading(CPU, tmp_path))

    assert arrays.train_inputs.shape == (9, 3, 4, 5)
    assert arrays.train_inputs[2, :, 0, 0].tolist() == [2, 0, 7]


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (lambda: iter([(INPUTS[0], 0), INPUTS[1]]), "train: sample 1 is no pair of inputs and target"),
        (
            lambda: iter([(np.zeros((2, 3)), 0), (np.zeros((2, 4)), 1)]),
            r"train: sample 1 is float64 \[2, 4\], and sample 0 float64 \[2, 3\]: make them one; text and series are",
        ),
        (lambda: iter(()), "train: has no samples"),
        (lambda: iter([("a photo", 0)]), "train: sample 0 is str, not numbers"),
        (lambda: DataLoader(Points(9)), "return the Dataset itself"),
    ],
)
def test_samples_that_do_not_fit_are_named(
    given: Given, tmp_path: Path, train: Callable[[], Any], message: str
) -> None:
    given(lambda: data(train=train()))

    with pytest.raises(InvalidSpec, match=message):
        load(NamedDatasetSpec(name="mine:data"), Reading(CPU, tmp_path))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"ids": INPUTS, "mask": INPUTS[:-1]}, "as many of each input are wanted, not 40 of ids and 39 of mask"),
        ({"the ids": INPUTS}, "'the ids' cannot be an argument of a model's forward"),
        ({}, "as many of each input are wanted, not none"),
        ({"ids": INPUTS.astype(complex)}, r"train inputs ids must be numbers \[samples, ...\]"),
    ],
)
def test_several_inputs_that_do_not_fit_together_are_refused(
    given: Given, inputs: dict[str, Any], message: str
) -> None:
    given(lambda: data(train=(inputs, TARGETS)))

    with pytest.raises(InvalidSpec, match=message):
        load(NamedDatasetSpec(name="mine:data"), Reading(CPU))


def test_a_data_set_of_several_inputs_is_described_by_each_of_them(given: Given) -> None:
    inputs = {"ids": np.arange(80, dtype=np.int16).reshape(40, 2), "mask": np.ones(40, bool), "pixels": INPUTS}
    few = {name: values[:9] for name, values in inputs.items()}
    given(lambda: {"train": (inputs, TARGETS), "test": (few, TARGETS[:9])})

    record = load(NamedDatasetSpec(name="mine:data"), Reading(CPU)).describe()

    assert record.input_shape == {"ids": (2,), "mask": (), "pixels": (1, 4, 4)}
    assert {name: each.kind for name, each in record.inputs.items()} == {
        "ids": "tokens",
        "mask": "flags",
        "pixels": "numbers",
    }
    assert record.inputs["pixels"].mean == pytest.approx((INPUTS.mean(),), abs=1e-6)
    assert not record.tokens
