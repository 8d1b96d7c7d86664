"""Stages and their keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage, stage_key
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


def student(name: str = "small", **distillation: Any) -> dict[str, Any]:
    return {
        "name": name,
        "model": {"name": "mlp", "hidden": [8]},
        "training": {"epochs": 2},
        "distillation": distillation,
    }


def keys(spec: PipelineSpec) -> dict[str, str]:
    return {stage.title: stage.key for stage in Plan.of(spec).stages}


def test_a_key_is_the_same_on_every_machine(make_spec: MakeSpec) -> None:
    # These keys are in people's stores: a change here makes all of their artifacts be computed again.
    plan = Plan.of(make_spec())

    assert [stage.ref.short_key for stage in plan.trunk] == ["5bc5f0c7", "d94e07ac", "86724abb"]


def test_a_change_that_concerns_some_recipes_changes_their_keys_only(make_spec: MakeSpec) -> None:
    own = Plan.of(make_spec(dataset={"name": "mine:data"})).trunk[0]
    held_out = {"name": "digits", "validation": 0.1}
    impatient = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2, "patience": 1}}
    teacher = Plan.of(make_spec(dataset=held_out, teacher=impatient)).trunk[1]

    assert own.key != stage_key(own.kind, ingredients(own.recipe), own.inputs)
    assert teacher.key != stage_key(teacher.kind, ingredients(teacher.recipe), teacher.inputs)
    assert own.of_this_version
    assert teacher.of_this_version


def test_what_is_accepted_is_in_the_plan_and_in_no_key(make_spec: MakeSpec) -> None:
    plan, accepting = Plan.of(make_spec()), Plan.of(make_spec(accept=["unused_classes"]))

    assert keys(make_spec(accept=["unused_classes"])) == keys(make_spec())
    assert accepting.accept == ("unused_classes",)
    assert Plan.model_validate_json(accepting.model_dump_json()) == accepting
    assert "accept" not in plan.model_dump_json(), "an earlier version reads it"


def test_a_plan_that_accepts_kinds_of_a_later_version_is_read(make_spec: MakeSpec) -> None:
    later = Plan.of(make_spec()).model_dump(mode="json") | {"accept": ["not_known_yet"]}

    assert Plan.model_validate(later).accept == ("not_known_yet",)


def test_evaluations_of_other_than_built_in_models_are_counted_by_operators_and_have_other_keys(
    make_spec: MakeSpec,
) -> None:
    def evaluations(**changes: Any) -> dict[str, Stage]:
        return {stage.title: stage for stage in Plan.of(make_spec(**changes)).stages if stage.kind == "evaluate"}

    teacher = {"model": {"name": "torchvision/resnet18"}, "training": {"epochs": 1}}
    mixed, own = evaluations(teacher=teacher), evaluations(teacher={"model": {"name": "mine:net"}})

    assert {stage.recipe.model_dump_json() for stage in evaluations().values()} == {'{"kind":"evaluate","seed":null}'}
    assert ingredients(mixed["evaluate teacher"].recipe) == {"counting": "operators"}
    assert ingredients(own["evaluate teacher"].recipe) == {"counting": "operators"}
    assert ingredients(mixed["evaluate small"].recipe) == {}
    joined = evaluations(teacher=None, teachers=[teacher, {"model": {"name": "mlp", "hidden": [8]}}])
    assert ingredients(joined["evaluate teacher"].recipe) == {"counting": "operators"}
    assert ingredients(joined["evaluate teacher 2"].recipe) == {}


def test_where_a_pipeline_runs_and_what_it_is_called_is_no_part_of_a_key(make_spec: MakeSpec) -> None:
    assert keys(make_spec(name="other", device="gpu")) == keys(make_spec())


def test_a_temperature_changes_its_student_and_what_follows_only(make_spec: MakeSpec) -> None:
    before, after = keys(make_spec()), keys(make_spec(students=[student(temperature=2.0)]))

    changed = {title for title in before if before[title] != after[title]}
    assert changed == {"distill small", "evaluate small", "report"}


def test_another_seed_of_the_teacher_changes_all_that_it_touches(make_spec: MakeSpec) -> None:
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2, "seed": 1}}
    before, after = keys(make_spec()), keys(make_spec(teacher=teacher))

    kept = {title for title in before if before[title] == after[title]}
    assert kept == {"prepare digits", "train small/control"}


def test_students_that_differ_in_their_distillation_share_a_control(make_spec: MakeSpec) -> None:
    spec = make_spec(students=[student("one", temperature=1.0), student("two", temperature=2.0)])
    plan = Plan.of(spec)

    assert sum(stage.kind == "train_control" for stage in plan.stages) == 1
    assert plan.report.inputs["one/control"] == plan.report.inputs["two/control"]
    assert plan.report.inputs["one"] != plan.report.inputs["two"]


def test_every_stage_stands_after_its_inputs_and_once(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[student("one"), student("two", alpha=0.5)]))
    seen: set[str] = set()

    for stage in plan.stages:
        assert {ref.key for ref in stage.inputs.values()} <= seen
        assert stage.key not in seen
        seen.add(stage.key)


def test_a_plan_survives_the_broker(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())

    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_a_failed_stage_blocks_all_that_comes_after_it_in_its_chain(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(fuse="off"))
    titles = {stage.key: stage.title for stage in plan.stages}

    def blocked(title: str) -> set[str]:
        (key,) = (key for key, each in titles.items() if each == title)
        return {titles[key] for key in plan.blocked_by({key})}

    everything = set(titles.values())
    assert blocked("train teacher") == everything - {"prepare digits", "train teacher"}
    assert blocked("soft labels") == everything - {"prepare digits", "train teacher", "soft labels"}
    assert blocked("distill small") == {"evaluate small", "report"}
    assert blocked("report") == set()


def test_students_controls_and_seeds_of_one_shape_stand_in_one_bundle(make_spec: MakeSpec) -> None:
    students = [student("one", temperature=1.0) | {"seeds": 3}, student("two", temperature=2.0)]

    fused, apart = (Plan.of(make_spec(students=students, fuse=fuse)) for fuse in ("auto", "off"))

    trained = [stage.title for stage in fused.branches[1][0]]
    assert len(trained) == 3 + 3 + 1, "three seeds, their controls, and the other student, who shares a control"
    assert len(fused.branches) == 2
    assert [evaluation.inputs["model"] for evaluation in fused.branches[1][1]] == [
        stage.ref for stage in fused.branches[1][0]
    ]
    assert all(len(bundle) == 1 for branch in apart.branches for bundle in branch)
    assert {stage.key for stage in apart.stages} == {stage.key for stage in fused.stages}


def test_students_of_other_shapes_or_schedules_are_not_bundled(make_spec: MakeSpec) -> None:
    longer = student("longer") | {"training": {"epochs": 3}}
    wider = student("wider") | {"model": {"name": "mlp", "hidden": [9]}}
    convolution = student("convolution") | {"model": {"name": "cnn"}}
    others = [longer | {"name": "longer", "seeds": 2}, wider | {"seeds": 1}, convolution]
    plan = Plan.of(make_spec(students=[student("one"), *others], evaluation={"control": False}))

    assert [len(branch[0]) for branch in plan.branches] == [1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("training", "together"),
    [({"clip_norm": 1.0, "ema_decay": 0.9, "accumulate": 2}, 3), ({"precision": "float16"}, 1)],
)
def test_trainings_with_any_option_but_float16_are_bundled(
    make_spec: MakeSpec, training: dict[str, Any], together: int
) -> None:
    one = student("one") | {"training": training, "seeds": 3}

    plan = Plan.of(make_spec(students=[one], evaluation={"control": False}))

    assert max(len(branch[0]) for branch in plan.branches) == together


def test_two_are_not_bundled(make_spec: MakeSpec) -> None:
    assert [len(branch[0]) for branch in Plan.of(make_spec()).branches] == [1, 1, 1]


def test_an_option_that_is_as_it_always_was_changes_no_key(make_spec: MakeSpec) -> None:
    options = {"clip_norm": None, "accumulate": 1, "ema_decay": None}
    said = student() | {"training": {"epochs": 2, "warmup": 0.0, "keep": "last"} | options, "seeds": 1}

    assert keys(make_spec(students=[said])) == keys(make_spec())


def test_without_controls_none_are_planned(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(evaluation={"control": False}))

    assert all(stage.kind != "train_control" for stage in plan.stages)


def test_given_weights_are_known_by_their_content(make_spec: MakeSpec, tmp_path: Path) -> None:
    def teacher_key(bias: float, name: str) -> str:
        path = tmp_path / name
        shapes = {"layers.0.weight": (32, 64), "layers.0.bias": 32, "head.weight": (10, 32), "head.bias": 10}
        path.write_bytes(save({each: np.full(shape, bias, np.float32) for each, shape in shapes.items()}))
        spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "checkpoint": str(path)})
        return keys(spec)[f"load teacher from {name}"]

    assert teacher_key(1.0, "a") == teacher_key(1.0, "b")
    assert teacher_key(1.0, "a") != teacher_key(2.0, "a")


def test_a_transfer_set_is_part_of_the_keys_of_a_student_and_its_control_only(make_spec: MakeSpec) -> None:
    everything = Plan.of(make_spec(students=[student()]))
    some = Plan.of(make_spec(students=[student() | {"transfer": {"without": [3]}}]))
    nothing_said = Plan.of(make_spec(students=[student() | {"transfer": {}}]))

    assert nothing_said == everything
    assert some.trunk == everything.trunk
    changed = {stage.title for stage in some.stages} - {
        stage.title for stage in some.stages if stage.key in {each.key for each in everything.stages}
    }
    assert changed == {
        "distill small", "train small/control", "evaluate small", "evaluate small/control", "report",
    }  # fmt: skip
