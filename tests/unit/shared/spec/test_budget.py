"""What a spec may say of a budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.budget import BudgetSpec
from distill_queue.shared.spec.pipeline import PipelineSpec


def loaded(write_spec: Callable[..., Path], budget: str) -> PipelineSpec:
    path = write_spec()
    path.write_text(f"{path.read_text()}\nbudget: {budget}\n")
    return PipelineSpec.load(path)


def test_numbers_may_have_underscores(write_spec: Callable[..., Path]) -> None:
    spec = loaded(write_spec, "{bytes: 50_000, latency_ms: 1, accuracy: 97}")

    assert spec.budget == BudgetSpec(bytes=50_000, latency_ms=1.0, accuracy=97.0)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ("{}", "budget: needs one of 'bytes', 'latency_ms' and 'accuracy'"),
        ("{bytes: 0}", "budget.bytes: input should be greater than or equal to 1"),
        ("{bytes: 1.5}", "budget.bytes: "),
        ("{bytes: 5_0}", "budget.bytes: input should be a valid integer"),
        ("{bytes: 50 kB}", "budget.bytes: input should be a valid integer"),
        ("{latency_ms: 0}", "budget.latency_ms: input should be greater than 0"),
        ("{accuracy: 101}", "budget.accuracy: input should be less than or equal to 100"),
        ("{size: 5}", "budget.size: unknown key"),
        ("50_000", 'budget: a mapping is needed, not "50_000"'),
    ],
)
def test_a_mistake_in_a_budget_is_named(write_spec: Callable[..., Path], budget: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        loaded(write_spec, budget)

    assert said.lower() in str(raised.value).lower()


def test_a_budget_changes_the_key_of_the_report_alone(make_spec: Callable[..., PipelineSpec]) -> None:
    without, with_budget = Plan.of(make_spec()), Plan.of(make_spec(budget={"bytes": 50_000}))

    changed = {stage.key for stage in with_budget.stages} - {stage.key for stage in without.stages}

    assert changed == {with_budget.report.key}


def test_a_report_without_a_budget_says_nothing_of_one(make_spec: Callable[..., PipelineSpec]) -> None:
    report = Plan.of(make_spec()).report

    assert "budget" not in report.model_dump_json()
