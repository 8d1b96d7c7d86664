"""Formats of messages: what earlier versions read stays in the format that they know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import EARLIER_FORMAT, STAGE_FORMAT
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
STUDENT: dict[str, Any] = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 1}}
DROPOUT = {"name": "mlp", "hidden": [8], "dropout": 0.5}


def test_a_pipeline_that_says_nothing_new_has_the_earlier_format(make_spec: MakeSpec) -> None:
    assert Plan.of(make_spec()).format == EARLIER_FORMAT


@pytest.mark.parametrize("changes", [{"normalise": {"mean": [0.5], "std": [0.5]}}, {"classes": [*"1023456789"]}])
@pytest.mark.parametrize("several", [False, True])
def test_what_earlier_versions_do_not_know_of_given_weights_is_new_and_the_rest_is_not(
    make_spec: MakeSpec, tmp_path: Path, changes: dict[str, Any], several: bool
) -> None:
    path = tmp_path / "given.safetensors"
    save_file({"head.weight": np.zeros((10, 64), np.float32), "head.bias": np.zeros(10, np.float32)}, path)
    given = {"model": {"name": "mlp", "hidden": []}, "checkpoint": str(path), "normalise": "unit"}

    def format_of(teacher: dict[str, Any]) -> int:
        both = {"teachers": [teacher, {"model": {"name": "mlp", "hidden": [4]}}], "teacher": None}
        return Plan.of(make_spec(**(both if several else {"teacher": teacher}))).format

    assert format_of(given) == EARLIER_FORMAT
    assert format_of(given | changes) == STAGE_FORMAT


def test_views_that_earlier_versions_know_have_the_earlier_format_and_no_new_word(make_spec: MakeSpec) -> None:
    augmentation = {"shift": 1, "flip": True, "cutout": 2, "mixup": 0.2, "seed": 3}

    plan = Plan.of(make_spec(soft_labels={"views": 2, "augmentation": augmentation}))

    assert plan.format == EARLIER_FORMAT
    labels = next(stage for stage in plan.trunk if stage.kind == "soft_labels")
    assert labels.model_dump(mode="json")["recipe"]["augmentation"] == augmentation


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": {"model": DROPOUT}},
        {"teacher": {"model": {"name": "cnn", "dropout": 0.5}}},
        {"teacher": {"model": {"name": "cnn"}, "training": {"clip_norm": 1.0}}},
        {"students": [STUDENT | {"training": {"ema_decay": 0.9}}]},
        {"students": [STUDENT | {"training": {"schedule": "polynomial"}}]},
        {"students": [STUDENT | {"training": {"precision": "float16"}}]},
        {"students": [STUDENT | {"model": DROPOUT}]},
        {"students": [STUDENT | {"transfer": {"only": [1]}}]},
        {"students": [STUDENT | {"distillation": {"alpha": {"from": 1, "to": 0.5}}}]},
        {"teacher": {"model": {"name": "cnn"}, "training": {"augmentation": {"rotation": 10}}}},
        {"soft_labels": {"views": 2, "augmentation": {"crop": {}}}},
        {"students": [STUDENT, STUDENT | {"name": "tiny", "teacher": "small"}]},
        {"soft_labels": {"mode": "online"}},
        {"budget": {"bytes": 50_000}},
    ],
    ids=[
        "a teacher's dropout",
        "dropout of a cnn",
        "a teacher's training",
        "a student's training",
        "polynomial",
        "float16",
        "a student's dropout",
        "transfer",
        "schedule",
        "a teacher's views",
        "labelled views",
        "assistant",
        "a teacher that answers in each step",
        "budget",
    ],
)
def test_what_only_this_version_knows_gives_all_stages_its_format(make_spec: MakeSpec, changes: dict[str, Any]) -> None:
    assert Plan.of(make_spec(**changes)).format == STAGE_FORMAT
