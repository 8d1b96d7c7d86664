"""Comparison: the students of several pipelines side by side, as rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.description import details, trained
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.results.scores import Estimate

#: What a comparison may be sorted by, the best first.
Order = Literal["given", "accuracy", "gain", "parameters", "latency"]


class ComparedStudent(Frozen):
    """One student over its seeds; accuracies and gains are shares of 1, intervals of 95 %."""

    pipeline: str
    student: str
    dataset: str
    #: Key of the packed data: accuracies compare only where it is the same.
    data_key: str
    #: The student's model and training in words.
    about: str
    seeds: int
    accuracy: float
    accuracy_low: float | None
    accuracy_high: float | None
    teacher_accuracy: float | None
    control_accuracy: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    verdict: str
    parameters: int
    latency_median_ms: float
    device: str


def compared(pipelines: list[tuple[PipelineResults, Plan]], order: Order = "given") -> list[ComparedStudent]:
    """Every student of some pipelines in an order; students without the value to sort by come last.

    Raises:
        InvalidInput: there is no such order.

    """
    if order not in get_args(Order):
        raise InvalidInput(f"unknown order '{order}'{did_you_mean(order, get_args(Order))}")
    students = [student for results, plan in pipelines for student in _students(results, plan)]
    match order:
        case "given":
            return students
        case "parameters" | "latency":
            return sorted(students, key=lambda s: s.parameters if order == "parameters" else s.latency_median_ms)
        case "accuracy":
            return sorted(students, key=lambda s: -s.accuracy)
        case "gain":
            return sorted(students, key=lambda s: (s.gain is None, -(s.gain or 0.0)))


def _students(results: PipelineResults, plan: Plan) -> Iterator[ComparedStudent]:
    recipe = plan.trunk[0].recipe
    if not isinstance(recipe, PrepareData):
        raise InvalidInput(f"{results.id}: its plan does not begin with data")
    teacher = results.scores.teacher
    for score, runs in zip(results.scores.students, plan.students, strict=True):
        first = runs.seeds[0]
        yield ComparedStudent(
            pipeline=results.id,
            student=score.name,
            dataset=recipe.dataset.called,
            data_key=plan.trunk[0].key,
            about=" · ".join(
                (*details(trained(plan, runs.role(first), score.choice, first), recipe.dataset.called), *runs.taught)
            ),
            seeds=len(score.runs),
            accuracy=score.accuracy.mean,
            accuracy_low=score.accuracy.low,
            accuracy_high=score.accuracy.high,
            teacher_accuracy=teacher.accuracy if teacher else None,
            control_accuracy=_mean(score.control_accuracy),
            gain=_mean(score.gain),
            gain_low=score.gain.low if score.gain else None,
            gain_high=score.gain.high if score.gain else None,
            verdict=score.verdict,
            parameters=score.student.parameters,
            latency_median_ms=results.scores.fastest(score.student).latency_median_ms,
            device=score.student.device,
        )


def _mean(estimate: Estimate | None) -> float | None:
    return estimate.mean if estimate else None
