"""What is printed of a pipeline without a terminal: a line a task, each change at once, progress now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.scheduler.watch.lines import Lines, titled
from distill_queue.shared.ledger.status import PipelineStatus, StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


class Clock:
    """Seconds that pass when a test says so."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def plan(make_spec: MakeSpec) -> Plan:
    """A student of nine seeds with its controls, which are trained together."""
    student = make_spec().students[0].model_dump(mode="json") | {"seeds": 9}
    return Plan.of(make_spec(students=[student]))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> Callable[[PipelineStatus], list[str]]:
    """The lines that a status makes."""
    printed = Lines(lambda _stage, state: state.error or state.progress or state.state, clock)
    return lambda status: [f"{line.state.state} {line.subject}: {line.words}" for line in printed(status)]


def status_of(plan: Plan, states: Callable[[str], StageState | None]) -> PipelineStatus:
    """A pipeline whose stages stand as their titles say."""
    found = {stage.key: states(stage.title) or StageState() for stage in plan.stages}
    return PipelineStatus(id="tiny-1", submitted=0.0, plan=plan, states=found)


def training(plan: Plan, progress: str, **others: StageState) -> PipelineStatus:
    """The students and their controls are trained together."""
    running = StageState(state="running", progress=progress)
    models = {stage.title for stage in plan.stages if stage.kind in ("distill", "train_control")}
    return status_of(plan, lambda title: others.get(title) or (running if title in models else None))


def test_a_task_of_eighteen_models_is_one_line(plan: Plan, lines: Any) -> None:
    found = lines(training(plan, "epoch 1/20 · step 1/5"))

    assert found == [
        "running distill small, seeds 0 to 8 and 9 others (18 models together): epoch 1/20 · step 1/5",
    ]


def test_progress_is_told_at_the_ends_of_epochs_and_twice_a_minute_in_between(
    plan: Plan, clock: Clock, lines: Any
) -> None:
    found = []
    for second in range(200):  # Epochs of 50 s at first, then of one.
        clock.now = 1_000.0 + second
        epoch = 1 + second // 50 if second < 100 else second
        found += [second for _ in lines(training(plan, f"epoch {epoch}/900 · step {second}"))]

    assert found[:5] == [0, 30, 50, 80, 100]
    assert found[4:] == list(range(100, 200, 5))


def test_progress_that_knows_no_epochs_is_told_twice_a_minute(plan: Plan, clock: Clock, lines: Any) -> None:
    found = []
    for second in range(60):
        clock.now = 1_000.0 + second
        state = StageState(state="running", progress=f"{second:,} of 60 samples")
        found += lines(status_of(plan, lambda title, state=state: state if title == "soft labels" else None))

    assert found == ["running soft labels: 0 of 60 samples", "running soft labels: 30 of 60 samples"]


def test_what_ends_is_told_at_once_each_with_its_own_words_and_together_where_they_are_alike(
    plan: Plan, lines: Any
) -> None:
    lines(training(plan, "epoch 1/20"))
    failed = {f"distill small, seed {seed}": StageState(state="failed", error="out of memory") for seed in (2, 5, 6)}
    diverged = {"distill small, seed 0": StageState(state="failed", error="the loss is not finite")}

    found = lines(training(plan, "epoch 1/20", **failed, **diverged))
    again = lines(training(plan, "epoch 1/20", **failed, **diverged))

    assert found == [
        "failed distill small, seed 0: the loss is not finite",
        "failed distill small, seeds 2, 5 and 6 (3 models together): out of memory",
    ]
    assert again == []


def test_why_a_stage_waits_is_told_once(plan: Plan, lines: Any) -> None:
    def waits(title: str) -> StageState | None:
        return StageState(progress="waits: another pipeline computes it") if title == "train teacher" else None

    first, second = lines(status_of(plan, waits)), lines(status_of(plan, waits))

    assert (first, second) == (["waiting train teacher: waits: another pipeline computes it"], [])


def test_what_goes_back_to_waiting_is_told(plan: Plan, lines: Any) -> None:
    lines(training(plan, "epoch 1/20"))

    assert lines(status_of(plan, lambda _: None)) == [
        "waiting distill small, seeds 0 to 8 and 9 others (18 models together): waiting"
    ]


def test_the_tasks_of_a_plan_are_all_its_stages(make_spec: MakeSpec, plan: Plan) -> None:
    teachers = [{"model": {"name": "mlp", "hidden": [width]}} for width in (4, 8)]
    several = Plan.of(make_spec(teacher=None, teachers=teachers, dataset={"name": "digits", "validation": 0.1}))

    for each in (plan, several):
        assert [stage for task in each.bundles for stage in task] == list(each.stages)
    assert max(map(len, several.bundles)) == 1


def test_evaluations_are_not_done_together(plan: Plan) -> None:
    task = next(task for task in plan.bundles if len(task) > 1 and task[0].kind == "evaluate")

    assert titled(task).endswith(f" ({len(task)} models)")


def test_points_of_a_grid_are_one_task_of_many(make_spec: MakeSpec) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "seeds": 2}
    student |= {"distillation": {"temperature": {"grid": [1, 2]}}}
    plan = Plan.of(make_spec(dataset={"name": "digits", "validation": 0.1}, students=[student]))

    (task,) = (task for task in plan.bundles if task[0].title.startswith("distill"))

    assert titled(task) == "distill small, seeds 0 to 1 (temperature 1) and 4 others (6 models together)"
    assert titled(task[:1]) == "distill small, seed 0 (temperature 1)"
