"""The table of built-in data sets, and what is asked of each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.dataset import LISTED
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources.table import SOURCES
from distill_queue.worker.machine.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
IMAGES = np.zeros((4, 1, 2, 2), np.uint8)


def test_the_data_sets_that_a_client_may_name_are_those_that_a_worker_reads() -> None:
    assert SOURCES.keys() == {name.partition("/")[0] for name in LISTED}


def test_a_source_gives_the_shape_and_classes_that_a_client_is_told_of() -> None:
    arrays = load(NamedDatasetSpec(name="digits"), Reading(CPU))

    assert arrays.train_inputs.shape[1:] == arrays.test_inputs.shape[1:] == DATASETS["digits"].shape
    assert len(arrays.class_names) == DATASETS["digits"].classes
    assert set(arrays.train_targets) == set(arrays.test_targets) == set(range(10))


def test_what_a_source_gives_is_checked_and_the_data_set_named(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Arrays(IMAGES, np.array([0, 1, 0, 7]), IMAGES, np.array([0, 1, 0, 1]), ("a", "b"))
    monkeypatch.setitem(SOURCES, "digits", lambda *_: wrong)

    with pytest.raises(InvalidSpec, match=r"^digits: a train target is outside of the 2 classes: row 3 is 7$"):
        load(NamedDatasetSpec(name="digits"), Reading(CPU))


def test_a_source_is_told_what_the_spec_says(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, asked = np.array([0, 1, 0, 1]), NamedDatasetSpec(name="digits", version="7")
    told: list[object] = []

    def read(dataset: NamedDatasetSpec, reading: Reading) -> Arrays:
        told.extend((dataset, reading))
        return Arrays(IMAGES, targets, IMAGES, targets, ("a", "b"))

    monkeypatch.setitem(SOURCES, "digits", read)

    load(asked, reading := Reading(CPU))

    assert told == [asked, reading]
