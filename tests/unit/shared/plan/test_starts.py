"""What trainings begin with, as a spec says it and as it is planned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.formats import format_of
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import EARLIER_FORMAT, STAGE_FORMAT, Stage
from distill_queue.shared.spec.pipeline import PipelineSpec


def spec_of(student: dict[str, Any]) -> PipelineSpec:
    teacher = {"model": {"name": "mlp", "hidden": [16]}}
    student = {"name": "s", "model": {"name": "mlp", "hidden": [8]}} | student
    return PipelineSpec.of({"name": "p", "dataset": {"name": "digits"}, "teacher": teacher, "students": [student]})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"layers.0.weight": torch.ones(8, 63)},
            r"students\[0\]\.weights: .*layers\.0\.weight is \[8, 63\], not \[8, 64\]",
        ),
        ({"layers.0.bias": None}, r"students\[0\]\.weights: .*missing layers\.0\.bias"),
        ({f"extra.{n}": torch.ones(1) for n in range(4)}, r"unexpected extra\.0, extra\.1, extra\.2 and 1 more"),
        ({"head.weight": torch.ones(10, 9)}, r"head\.weight is \[10, 9\], not \[10, 8\]"),
    ],
)
def test_other_weights_are_refused_before_anything_is_submitted(
    student_weights: Callable[..., dict[str, str]], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSpec, match=said):
        spec_of({"weights": student_weights(**changes)})


@pytest.mark.parametrize(
    ("student", "said"),
    [
        ({"weights": {"file": "nowhere.safetensors"}}, r"students\[0\]\.weights: no such file"),
        ({"weights": {"file": "w"}, "continues": {"pipeline": "p", "student": "s"}}, "not both"),
        (
            {"model": {"name": "torchvision/resnet18", "weights": "IMAGENET1K_V1"}, "weights": {"file": "w"}},
            "leave out model.weights",
        ),
        ({"continues": {"pipeline": "../x", "student": "s"}}, r"continues\.pipeline"),
    ],
)
def test_a_start_that_cannot_be_is_refused(student: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        spec_of(student)


def test_the_content_of_the_file_is_part_of_the_key_and_its_name_is_not(
    student_weights: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    def key(file: dict[str, str] | None) -> Stage:
        plan = Plan.of(spec_of({"weights": file} if file else {}))
        return next(stage for stage in plan.stages if stage.kind == "distill")

    first = key(student_weights())
    (tmp_path / "other.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes())
    same, none = key({"file": str(tmp_path / "other.safetensors")}), key(None)
    other = key(student_weights(classes=7))

    assert first.key == same.key
    assert len({first.key, none.key, other.key}) == 3
    assert (format_of([first.recipe]), format_of([none.recipe])) == (STAGE_FORMAT, EARLIER_FORMAT)
    assert "from w.safetensors" in first.recipe.details()


def test_trainings_that_go_on_are_not_stacked_and_those_that_start_from_a_file_are(
    student_weights: Callable[..., dict[str, str]],
) -> None:
    def sizes(student: dict[str, Any]) -> set[int]:
        plan = Plan.of(spec_of(student | {"seeds": 4}))
        return {len(bundle) for bundle in plan.bundles if bundle[0].kind in ("distill", "train_control")}

    assert sizes({"weights": student_weights()}) == {8}
    assert sizes({"training": {"keep_state": True}}) == {1}
