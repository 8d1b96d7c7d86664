"""Plans in which students teach others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


def student(name: str, width: int, **others: Any) -> dict[str, Any]:
    return {"name": name, "model": {"name": "mlp", "hidden": [width]}, "training": {"epochs": 2}} | others


CHAIN = [
    student("small", 8, teacher="medium", seeds=3),
    student("medium", 32, seeds=2),
    student("chosen", 16, teacher="medium", distillation={"temperature": {"grid": [1.0, 4.0]}}),
    student("tiny", 4, teacher="chosen"),
]


@pytest.fixture
def chain(make_spec: MakeSpec) -> Plan:
    return Plan.of(make_spec(students=CHAIN, dataset={"name": "digits", "validation": 0.2}))


def by_title(plan: Plan) -> dict[str, Stage]:
    return {stage.title: stage for stage in plan.stages}


def test_students_of_an_assistant_come_after_its_labels(chain: Plan) -> None:
    between = [[stage.title for bundle in generation.steps for stage in bundle] for generation in chain.later]

    assert between == [
        ["join medium", "soft labels of medium"],
        ["choose chosen", "join chosen", "soft labels of chosen"],
    ]
    trained = [{stage.title for branch in generation.branches for stage in branch[0]} for generation in chain.later]
    assert trained == [
        {"distill small, seed 0", "distill small, seed 1", "distill small, seed 2",
         "distill chosen (temperature 1)", "distill chosen (temperature 4)"},
        {"distill tiny"},
    ]  # fmt: skip
    assert [stage.title for bundle in chain.tail for stage in bundle] == ["evaluate chosen"]


def test_every_stage_of_a_chain_stands_after_its_inputs_and_once(chain: Plan) -> None:
    seen: set[str] = set()

    for stage in chain.stages:
        assert {ref.key for ref in stage.inputs.values()} <= seen
        assert stage.key not in seen
        seen.add(stage.key)


def test_a_student_is_scored_beside_its_assistant_and_its_control_beside_the_teacher(chain: Plan) -> None:
    stages = by_title(chain)

    assert stages["evaluate small, seed 0"].inputs["teacher"] == stages["join medium"].ref
    assert stages["evaluate tiny"].inputs["teacher"] == stages["join chosen"].ref
    assert stages["evaluate small, seed 0/control"].inputs["teacher"] == stages["train teacher"].ref
    assert stages["evaluate medium, seed 0"].inputs["teacher"] == stages["train teacher"].ref


def test_an_assistant_with_one_seed_teaches_by_itself(make_spec: MakeSpec) -> None:
    stages = by_title(Plan.of(make_spec(students=[student("medium", 32), student("small", 8, teacher="medium")])))

    assert stages["soft labels of medium"].inputs["teacher"] == stages["distill medium"].ref
    assert not [title for title in stages if title.startswith("join")]


def test_a_chain_changes_no_key_of_what_would_be_there_without_it(make_spec: MakeSpec) -> None:
    first, *others = ([student("medium", 32, seeds=3)], [student("medium", 32, seeds=3), student("alone", 8)])
    alone, both = (by_title(Plan.of(make_spec(students=students))) for students in (first, *others))
    chain = by_title(
        Plan.of(make_spec(students=[student("medium", 32, seeds=3), student("alone", 8, teacher="medium")]))
    )

    assert {title: stage.key for title, stage in alone.items() if title != "report"}.items() <= {
        title: stage.key for title, stage in chain.items()
    }.items()
    assert chain["train alone/control"].key == both["train alone/control"].key
    assert chain["distill alone"].key != both["distill alone"].key


def test_a_plan_says_nothing_of_later_generations_where_there_are_none(make_spec: MakeSpec, chain: Plan) -> None:
    assert "later" not in Plan.of(make_spec()).model_dump_json(), "an earlier version reads it"
    assert Plan.model_validate_json(chain.model_dump_json()) == chain


def test_assistants_that_differ_in_their_names_only_are_planned_once(make_spec: MakeSpec) -> None:
    assistants = [student("one", 32, seeds=2), student("two", 32, seeds=2)]
    taught = [student("small", 8, teacher="one"), student("tiny", 4, teacher="two")]

    plan = Plan.of(make_spec(students=[*assistants, *taught]))

    keys = [stage.key for stage in plan.stages]
    assert len(set(keys)) == len(keys)
    assert [len(generation.steps) for generation in plan.later] == [2]


def test_what_fails_blocks_the_generations_behind_it(chain: Plan) -> None:
    stages = by_title(chain)
    titles = {stage.key: title for title, stage in stages.items()}

    def blocked(title: str) -> set[str]:
        return {titles[key] for key in chain.blocked_by({stages[title].key})}

    assert blocked("distill tiny") == {"evaluate tiny", "evaluate chosen", "report"}
    behind = {title for title, stage in stages.items() if "chosen" in title and "control" not in title}
    assert blocked("soft labels of medium") >= behind | {"distill small, seed 0", "distill tiny", "report"}
    assert not blocked("soft labels of medium") & {"distill medium, seed 0", "train small, seed 0/control"}
    assert chain.predecessors[stages["soft labels of medium"].key].keys() == {stages["join medium"].key}
    assert stages["evaluate medium, seed 0"].key in chain.predecessors[stages["join medium"].key]


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_the_spec_of_a_chain_is_found_again(make_spec: MakeSpec, average: str) -> None:
    data = {"name": "digits", "validation": 0.2}
    plan = Plan.of(make_spec(students=CHAIN, dataset=data, average=average))

    again = Plan.of(PipelineSpec.of(PlannedSpec.of(plan).data))

    assert again == plan
