"""Formats of messages: what earlier versions read stays in the format that they know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import EARLIER_FORMAT, STAGE_FORMAT
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
STUDENT: dict[str, Any] = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 1}}
DROPOUT = {"name": "mlp", "hidden": [8], "dropout": 0.5}


def test_a_pipeline_that_says_nothing_new_has_the_earlier_format(make_spec: MakeSpec) -> None:
    assert Plan.of(make_spec()).format == EARLIER_FORMAT


@pytest.mark.parametrize(
    "changes",
    [
        {"teacher": {"model": DROPOUT}},
        {"students": [STUDENT | {"model": DROPOUT}]},
        {"students": [STUDENT | {"transfer": {"only": [1]}}]},
        {"students": [STUDENT | {"distillation": {"alpha": {"from": 1, "to": 0.5}}}]},
        {"students": [STUDENT, STUDENT | {"name": "tiny", "teacher": "small"}]},
    ],
    ids=["a teacher's dropout", "a student's dropout", "transfer", "schedule", "assistant"],
)
def test_what_only_this_version_knows_gives_all_stages_its_format(make_spec: MakeSpec, changes: dict[str, Any]) -> None:
    assert Plan.of(make_spec(**changes)).format == STAGE_FORMAT
