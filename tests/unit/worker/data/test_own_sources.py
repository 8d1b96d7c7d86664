"""Data of the user's own in a pipeline: what is refused, and what is as good as arrays."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from tests.unit.worker.conftest import (
    INPUTS,
    TARGETS,
    TOKENS,
    data,
    run,
)


def test_data_that_are_refused_leave_no_artifact(tmp_path: Path, mine: ModuleType) -> None:
    mine.data = partial(data, class_names=("a", "a", "b"))  # type: ignore[attr-defined]

    with pytest.raises(InvalidSpec, match="two classes have one name"):
        run(tmp_path)

    assert not list(tmp_path.rglob("manifest.json"))


def test_a_pipeline_learns_from_data_some_of_which_have_no_label(tmp_path: Path, mine: ModuleType) -> None:
    targets = np.where(np.arange(40) % 4 == 3, -1, TARGETS)
    mine.data = partial(data, train=(INPUTS, targets))  # type: ignore[attr-defined]
    run(tmp_path, dataset={"name": "mine:data", "validation": 0.2})


def test_tensors_are_as_good_as_arrays(tmp_path: Path, mine: ModuleType) -> None:
    tensors = {"train": (torch.from_numpy(INPUTS), torch.from_numpy(TARGETS))}
    mine.data = partial(data, **tensors)  # type: ignore[attr-defined]
    run(tmp_path, until="train_teacher")


@pytest.mark.parametrize("change", [{"shift": 1}, {"mixup": 0.5}])
def test_tokens_have_no_views(tmp_path: Path, mine: ModuleType, change: dict[str, Any]) -> None:
    mine.data = lambda: {"train": (TOKENS, TARGETS), "test": (TOKENS, TARGETS)}  # type: ignore[attr-defined]
    mine.model = lambda **_: nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(24, 3))  # type: ignore[attr-defined]
    training = {"epochs": 1, "augmentation": change}
    with pytest.raises(InvalidSpec, match="the samples are tokens"):
        run(tmp_path, teacher={"model": {"name": "mine:model"}, "training": training})


COLOURLESS = np.repeat(INPUTS.reshape(40, 1, 4, 4), 2, axis=1)
SIGNED = np.random.default_rng(0).normal(size=(40, 3, 4, 4)).astype(np.float32)


@pytest.mark.parametrize(
    ("inputs", "change", "message"),
    [
        (COLOURLESS, {"jitter": {"hue": 0.1}}, "augmentation.jitter.hue: samples of shape (2, 4, 4) have no colours"),
        (COLOURLESS, {"jitter": {"saturation": 0.1}}, "augmentation.jitter.saturation: samples of shape (2, 4, 4)"),
        (COLOURLESS, {"grayscale": 0.1}, "augmentation.grayscale: samples of shape (2, 4, 4) have no colours"),
        (SIGNED, {"jitter": {"brightness": 0.1}}, "augmentation.jitter: pixels are to be from 0 (black) to 1 (white)"),
        (SIGNED, {"rand_augment": {}}, "augmentation.rand_augment: pixels are to be from 0 (black) to 1 (white)"),
        (INPUTS.reshape(40, 16), {"cutmix": 0.5}, "augmentation: samples of shape (16,) are no images"),
    ],
)
def test_views_that_samples_cannot_have_are_refused_in_one_message(
    tmp_path: Path, mine: ModuleType, inputs: np.ndarray, change: dict[str, Any], message: str
) -> None:
    mine.data = lambda: {"train": (inputs, TARGETS), "test": (inputs, TARGETS)}  # type: ignore[attr-defined]
    training = {"epochs": 1, "augmentation": change}

    with pytest.raises(InvalidSpec) as error:
        run(tmp_path, teacher={"model": {"name": "mlp", "hidden": [4]}, "training": training})

    assert str(error.value).startswith(message)


def test_measurements_that_are_no_images_are_not_shifted(tmp_path: Path, mine: ModuleType) -> None:
    vectors = INPUTS.reshape(40, 16)
    mine.data = lambda: {"train": (vectors, TARGETS), "test": (vectors, TARGETS)}  # type: ignore[attr-defined]
    training = {"epochs": 1, "augmentation": {"flip": True}}
    with pytest.raises(InvalidSpec, match="are no images"):
        run(tmp_path, teacher={"model": {"name": "mine:model"}, "training": training})
