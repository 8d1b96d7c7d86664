"""Transfer sets: the classes that a student learns from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.transfer import TransferSpec

NAMES = ("cat", "dog", "7")


@pytest.mark.parametrize(
    ("given", "classes"),
    [
        ({}, None),
        ({"only": ["dog"]}, (1,)),
        ({"only": [2, "cat"]}, (0, 2)),
        ({"without": [0]}, (1, 2)),
        ({"without": ["7"]}, (0, 1)),
    ],
)
def test_classes_are_named_or_numbered(given: dict[str, Any], classes: tuple[int, ...] | None) -> None:
    assert TransferSpec.model_validate(given).classes(NAMES) == classes


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"only": ["dgo"]},
            "transfer: class dgo is none of the 3 classes of the data; did you mean 'dog'? (known: 7, cat, dog)",
        ),
        ({"without": [3]}, "transfer: class 3 is none of the 3 classes of the data"),
        ({"without": [0, 1, 2]}, "transfer: without 0, 1, 2: no class is left to learn from"),
    ],
)
def test_classes_that_are_none_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as error:
        TransferSpec.model_validate(given).classes(NAMES)

    assert str(error.value) == message


@pytest.mark.parametrize(
    ("transfer", "dataset", "message"),
    [
        ({"only": [1], "without": [2]}, {}, "without: give either 'only' or 'without'"),
        (
            {"only": [1]},
            {"labelled": 100},
            "a class is known by its label, and dataset.labelled leaves samples without",
        ),
        ({"only": [-1]}, {}, "students[0].transfer.only"),
    ],
)
def test_a_transfer_set_that_cannot_be_is_refused_in_the_spec(
    write_spec: Callable[..., Path], transfer: dict[str, Any], dataset: dict[str, Any], message: str
) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "transfer": transfer}
    path = write_spec(students=[student], dataset={"name": "digits"} | dataset)

    with pytest.raises(InvalidSpec) as error:
        PipelineSpec.load(path)

    assert message in str(error.value)
    assert "spec.yaml:" in str(error.value)


@pytest.mark.parametrize(
    ("transfer", "augmentation", "message"),
    [
        ({"only": [17]}, {}, "students[0].transfer: class 17 is none of the 10 classes of 'digits', from 0 on"),
        ({"only": [1]}, {"mixup": 0.2}, "students[0].transfer: mixup blends in samples of all classes"),
        ({"only": [1]}, {"cutmix": 0.2}, "students[0].transfer: cutmix blends in samples of all classes"),
    ],
)
def test_classes_that_are_not_there_or_would_be_blended_in_are_refused(
    write_spec: Callable[..., Path], transfer: dict[str, Any], augmentation: dict[str, Any], message: str
) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "transfer": transfer}
    labels = {"views": 2, "augmentation": augmentation}
    path = write_spec(students=[student], dataset={"name": "digits"}, soft_labels=labels if augmentation else {})

    with pytest.raises(InvalidSpec) as error:
        PipelineSpec.load(path)

    assert message in str(error.value)
