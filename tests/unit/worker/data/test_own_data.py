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
        (data(train=(np.full_like(INPUTS, np.nan), TARGETS)), "a train input is not finite"),
        (data(train=(np.array(["a"] * 40), TARGETS)), "train inputs must be numbers"),
        (data(train=(np.arange(40.0), TARGETS)), "train inputs must be numbers"),
        (data(test=(INPUTS[:9, :, :2], TARGETS[:9])), "a training sample and a test sample differ"),
        (data(test=(INPUTS[:9].astype(np.float64), TARGETS[:9])), "a training sample and a test sample differ"),
        (data(class_names=("a", "a", "b")), "two classes have one name"),
        (data(class_names=(0, 1, 2)), "class_names must be two or more texts"),
        (data(train=(INPUTS,)), "mine:data: "),
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
