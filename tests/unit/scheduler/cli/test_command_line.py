"""The command line without a broker: quick to answer, and its tables."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from distill_queue.scheduler.cli.logs import _facts
from distill_queue.scheduler.client.comparison import compared
from distill_queue.scheduler.tables.score_tables import comparison_table, costs_table, scores_table
from distill_queue.scheduler.terminal.output import print_json
from distill_queue.scheduler.watch import tree as live
from distill_queue.scheduler.watch.waiting import facts_of, reasons
from distill_queue.shared.ledger.logs import LogLine
from distill_queue.shared.ledger.results import COLUMNS, PipelineResults
from distill_queue.shared.ledger.status import PipelineStatus, StageState, duration_in_words
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import ClassesRecord, DatasetRecord, DataWarning, EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.evaluation.scores import score

MakeSpec = Callable[..., PipelineSpec]
#: What takes long to import, and what only answers need.
HEAVY = ("numpy", "celery", "kombu", "redis", "pydantic_settings", "torch", "matplotlib", "jinja2")


def status_of(plan: Plan, **states: StageState) -> PipelineStatus:
    """A pipeline whose stages stand as their titles say; the others wait."""
    found = {stage.key: states.get(stage.title, StageState()) for stage in plan.stages}
    return PipelineStatus(id="tiny-1", submitted=0.0, plan=plan, states=found)


def done(plan: Plan, title: str) -> StageState:
    """A stage that was found."""
    key = next(stage.key for stage in plan.stages if stage.title == title)
    facts = DatasetRecord(
        shape=(1,), class_names=("a",), train_samples=1, labelled_samples=1, validation_samples=0, test_samples=1,
        mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    record = StageRecord(key=key, kind="x", title=title, outcome="found", seconds=1.5, worker="w", record=facts)
    return StageState(state="done", worker="w", record=record)


def student(make_spec: MakeSpec, name: str, width: int) -> dict[str, Any]:
    return make_spec().students[0].model_dump(mode="json") | {"name": name, "model": {"name": "mlp", "hidden": [width]}}


def titled(status: PipelineStatus, by_key: dict[str, str]) -> dict[str, str]:
    return {stage.title: by_key[stage.key] for stage in status.plan.stages if stage.key in by_key}


def printed(status: PipelineStatus, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(live.Stages(status))
    return console.file.getvalue()


def results(accuracy: float, name: str = "tiny", parameters: int = 10, seeds: int = 2) -> PipelineResults:
    """Results of a student that is a point better than its control."""

    def evaluation(accuracy: float) -> EvaluationRecord:
        return EvaluationRecord(
            samples=100, accuracy=accuracy, negative_log_likelihood=0.5, agreement=None, parameters=parameters,
            multiply_adds=10, size_bytes=40, latency_median_ms=0.1, latency_p95_ms=0.2, throughput=1e3, device="cpu",
            training_seconds=None,
        )  # fmt: skip

    runs = tuple(
        StudentRun(seed=seed, student=evaluation(accuracy + seed / 1e4), control=evaluation(accuracy - 0.01))
        for seed in range(seeds)
    )
    scores = ReportRecord(teacher=evaluation(0.99), students=(score("small", runs, None),))
    return PipelineResults(id=f"{name}-1", name=name, scores=scores, stages=())


def test_costs_and_comparisons_have_the_latency_that_the_report_has(make_spec: MakeSpec) -> None:
    found = results(0.9)
    (small,) = found.scores.students
    fast = small.runs[1].student.model_copy(update={"latency_median_ms": 0.05})
    runs = (small.runs[0], small.runs[1].model_copy(update={"student": fast}))
    scores = ReportRecord(teacher=None, students=(small.model_copy(update={"runs": runs}),))
    found = found.model_copy(update={"scores": scores})

    console = Console(file=io.StringIO(), width=120)
    console.print(costs_table(found))

    assert "0.050" in console.file.getvalue()
    assert [each.latency_median_ms for each in compared([(found, Plan.of(make_spec()))])] == [0.05]


@pytest.mark.parametrize("command", [[], ["submit"], ["labels", "verify"]])
def test_help_answers_without_loading_what_only_answers_need(command: list[str]) -> None:
    code = (
        "import sys; from distill_queue.scheduler.cli.main import app; "
        f"app([*{command}, '--help'], standalone_mode=False); "
        f"sys.exit(', '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )

    answered = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "Usage" in answered.stdout
    assert (answered.returncode, answered.stderr) == (0, "")


def test_a_stage_that_waits_says_for_what(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    begun = status_of(plan, **{"prepare digits": StageState(state="running", worker="w")})

    waits = titled(begun, reasons(begun))

    assert waits["train teacher"] == "waits for prepare digits"
    assert waits["train small/control"] == "waits for prepare digits"
    assert waits["evaluate small"] == "waits for distill small"
    assert waits["report"] == "waits for evaluate teacher and 2 more"
    assert "prepare digits" not in waits


def test_a_control_waits_for_the_labels_although_it_does_not_read_them(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    begun = status_of(plan, **{"prepare digits": done(plan, "prepare digits")})

    assert titled(begun, reasons(begun))["train small/control"] == "waits for soft labels"


def test_what_nobody_serves_is_said_with_what_to_do(make_spec: MakeSpec) -> None:
    status = status_of(Plan.of(make_spec(device="gpu")))

    served, unserved, unknown = (
        titled(status, reasons(status, queues)) for queues in ({"gpu": True}, {"cpu": True}, None)
    )

    assert served["prepare digits"] == unknown["prepare digits"] == "in queue 'gpu'"
    assert unserved["prepare digits"].endswith("start one with 'distill worker --queues gpu'")


def test_what_a_worker_said_and_what_failed_come_first(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    states = {
        "prepare digits": done(plan, "prepare digits"),
        "train teacher": StageState(state="failed", error="train teacher: no"),
        "soft labels": StageState(state="blocked"),
        "train small/control": StageState(progress="tries again in 4 s: no room"),
    }

    waits = titled(status_of(plan, **states), reasons(status_of(plan, **states)))

    assert waits["soft labels"] == "never: train teacher failed"
    assert waits["train small/control"] == "tries again in 4 s: no room"


def test_programs_read_why_a_stage_waits_and_how_far_another_is(make_spec: MakeSpec) -> None:
    running = StageState(state="running", progress="epoch 1/2", share=0.25, worker="w")
    facts = facts_of(status_of(Plan.of(make_spec()), **{"prepare digits": running}))

    first, second, *_ = facts["stages"]
    assert (first["share"], first["waits"], second["waits"]) == (0.25, "", "waits for prepare digits")


def test_the_tree_has_every_stage_once_and_evaluations_below_their_models(make_spec: MakeSpec) -> None:
    grid = {"temperature": {"grid": [1, 2]}, "alpha": 0.9}
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "seeds": 2, "distillation": grid}
    teachers = [{"model": {"name": "mlp", "hidden": [width]}} for width in (8, 16)]
    spec = make_spec(dataset={"name": "digits", "validation": 0.1}, students=[student], teacher=None, teachers=teachers)

    lines = list(live.tree(Plan.of(spec)))

    assert sorted(stage.key for _, stage in lines) == sorted(stage.key for stage in Plan.of(spec).stages)
    plain = {stage.title: branch for branch, stage in live.tree(Plan.of(make_spec()))}
    assert plain["distill small"] == "├─ "
    assert plain["evaluate small"] == "│  └─ "
    assert plain["evaluate small/control"] == "   └─ "
    assert plain["report"] == ""


def test_a_shown_pipeline_has_a_line_a_stage_with_all_that_is_known(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec())
    running = StageState(state="running", progress="epoch 1/2 [x]", share=0.5, worker="worker-1@host", began=0.0)
    text = printed(status_of(plan, **{"prepare digits": done(plan, "prepare digits"), "train teacher": running}))

    head, first, second, *_ = text.splitlines()
    assert head.startswith(f"tiny-1  running  1 of {len(plan.stages)} stages, submitted ")
    assert "✓ prepare digits" in first
    assert "found · 1 + 1 samples" in first
    assert "1.5 s" in first
    assert "▶ train teacher" in second
    assert "epoch 1/2 [x]" in second
    assert "worker-1@host" in second


def test_a_narrow_terminal_has_no_room_for_bars_and_workers_but_for_what_is_done(make_spec: MakeSpec) -> None:
    spec = make_spec(students=[make_spec().students[0].model_dump(mode="json") | {"name": "x" * 60}])
    plan = Plan.of(spec)
    running = StageState(state="running", progress="epoch 1/2", share=0.5, worker="worker-1@host", began=0.0)
    text = printed(status_of(plan, **{f"distill {'x' * 60}": running}), width=80)

    (line,) = [line for line in text.splitlines() if "▶" in line]
    assert "…" in line
    assert "epoch 1/2" in line
    assert "worker-1" not in text
    assert len(text.splitlines()) == 1 + len(plan.stages)


def test_a_low_terminal_shows_what_fails_and_runs_and_comes_next(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[student(make_spec, f"s{number}", 2 + number) for number in range(20)]))
    states = {
        "prepare digits": done(plan, "prepare digits"),
        "train teacher": done(plan, "train teacher"),
        "distill s7": StageState(state="failed", error="no"),
        "distill s9": StageState(state="running", progress="epoch 1"),
    }
    console = Console(file=io.StringIO(), width=120, height=10)
    console.print(live.Stages(status_of(plan, **states), fit=True))

    lines = console.file.getvalue().splitlines()
    assert len(lines) == 9
    assert any("✗" in line and "distill s7" in line for line in lines)
    assert any("▶" in line and "distill s9" in line for line in lines)
    assert lines[-1] == f"… and {len(plan.stages) - 9} waiting, 2 done"


def warning_of(plan: Plan) -> StageState:
    """Data that are done, with a warning."""
    state = done(plan, "prepare digits")
    assert state.record is not None
    assert isinstance(state.record.record, DatasetRecord)
    odd = DataWarning(kind="unused_classes", text="1 of 2 classes (:one:) has no training sample")
    facts = state.record.record.model_copy(update={"warnings": (odd,)})
    return state.model_copy(update={"record": state.record.model_copy(update={"record": facts})})


TOLD = "! prepare digits: 1 of 2 classes (:one:) has no training sample (unused_classes)"


@pytest.mark.parametrize(("accept", "told"), [([], True), (["unused_classes"], False), (["channels_last"], True)])
def test_a_warning_has_a_line_once_its_stage_is_done_unless_it_is_accepted(
    make_spec: MakeSpec, accept: list[str], told: bool
) -> None:
    plan, console = Plan.of(make_spec(accept=accept)), Console(file=io.StringIO(), width=100)
    status = status_of(plan, **{"prepare digits": warning_of(plan)})

    live.follow([status_of(plan), status, status], console)

    lines = console.file.getvalue().splitlines()
    assert lines.count(TOLD) == int(told)
    assert (TOLD in printed(status)) == told
    assert facts_of(status)["warnings"] == [
        {
            "kind": "unused_classes",
            "text": "1 of 2 classes (:one:) has no training sample",
            "stage": "prepare digits",
            "accepted": not told,
        }
    ]


def test_in_a_low_terminal_a_warning_takes_the_line_of_a_stage(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[student(make_spec, f"s{number}", 2 + number) for number in range(20)]))
    console = Console(file=io.StringIO(), width=60, height=10)

    console.print(live.Stages(status_of(plan, **{"prepare digits": warning_of(plan)}), fit=True))

    lines = console.file.getvalue().splitlines()
    assert len(lines) == 9
    assert lines[-1].startswith("! prepare digits: 1 of 2 classes")
    assert lines[-1].endswith("…")


def test_who_waits_for_a_queue_that_nobody_serves_is_told_once(
    make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LOOK_SECONDS", -1.0)
    plan, console = Plan.of(make_spec(device="gpu")), Console(file=io.StringIO(), width=100)

    live.follow([status_of(plan)] * 3, console, lambda: {"cpu": True})

    assert console.file.getvalue() == (
        "· in queue 'gpu', which no worker serves: start one with 'distill worker --queues gpu'\n"
    )


def test_a_blocked_stage_names_what_it_needed(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[student(make_spec, "one", 2), student(make_spec, "two", 3)]))
    failed = StageState(state="failed", error="no")
    blocked = {title: StageState(state="blocked") for title in ("evaluate two", "report")}
    status = status_of(plan, **{"distill one": failed, "distill two": failed}, **blocked)

    found = titled(status, reasons(status))

    assert found["evaluate two"] == "never: distill two failed"
    assert found["report"] == "never: distill one and 1 more failed"


def test_lines_say_what_changed_and_progress_now_and_then(make_spec: MakeSpec) -> None:
    plan, console = Plan.of(make_spec()), Console(file=io.StringIO(), width=100)
    steps = [StageState(state="running", progress=f"step {step}") for step in range(50)]

    live.follow((status_of(plan, **{"train teacher": step}) for step in steps), console)

    assert console.file.getvalue() == "▶ train teacher: step 0\n"


def test_students_of_pipelines_are_compared_and_sorted(make_spec: MakeSpec) -> None:
    plan = Plan.of(make_spec(students=[make_spec().students[0].model_dump(mode="json") | {"seeds": 2}]))
    other = Plan.of(make_spec(dataset={"name": "digits", "validation": 0.2}))
    pipelines = [(results(0.9), plan), (results(0.95, "better", parameters=5, seeds=1), other)]

    by_accuracy = compared(pipelines, "accuracy")
    by_size = compared(pipelines, "parameters")
    given = compared(pipelines)

    assert [student.pipeline for student in given] == ["tiny-1", "better-1"]
    assert [student.pipeline for student in by_accuracy] == ["better-1", "tiny-1"]
    assert by_size == by_accuracy
    first = given[0]
    assert (first.student, first.dataset, first.seeds) == ("small", "digits", 2)
    assert first.about == "mlp 8 · digits · T=4 alpha=0.9 · 2 epochs"
    assert first.gain == pytest.approx(0.01 + 0.5e-4)
    assert first.gain_low is not None
    assert given[1].gain_low is None
    console = Console(file=io.StringIO(), width=79)
    console.print(comparison_table(given))
    assert "their accuracies cannot be compared" in console.file.getvalue()
    assert "small of" in console.file.getvalue()


def test_results_have_a_row_a_model_and_seed() -> None:
    rows = results(0.9).rows()

    assert [(row["model"], row["role"], row["seed"]) for row in rows] == [
        ("teacher", "teacher", None), ("small", "student", 0), ("small", "control", 0),
        ("small", "student", 1), ("small", "control", 1),
    ]  # fmt: skip
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert rows[1]["gain"] == pytest.approx(0.01)
    assert rows[2]["gain"] is None
    assert {row["held_out_accuracy"] for row in rows} == {None}
    assert {row["trained_parameters"] for row in rows} == {10}


def test_a_log_line_is_json_with_its_characters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    line = LogLine(time=0.0, level="INFO", worker="w", stages=("12345678",), message="Prüfung")

    print_json(_facts(line, {"12345678": "prepare Prüfung"}), indent=None)

    assert '"message": "Prüfung"' in capsys.readouterr().out


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min"), (7200, "2.0 h")])
def test_times_are_said_as_people_say_them(seconds: float, words: str) -> None:
    assert duration_in_words(seconds) == words


@pytest.mark.parametrize(("seeds", "told"), [(1, True), (2, False)])
def test_a_gain_from_one_seed_is_no_verdict(seeds: int, told: bool) -> None:
    caption = str(scores_table(results(0.9, seeds=seeds)).caption)

    assert ("one seed is not told apart from chance" in caption) == told
    assert ("Against the control" in caption) != told


def test_means_over_classes_stand_beside_the_accuracy_where_they_were_recorded() -> None:
    def shown(found: PipelineResults) -> str:
        console = Console(file=io.StringIO(), width=120)
        console.print(scores_table(found))
        return console.file.getvalue()

    plain = results(0.9)
    classes = ClassesRecord(balanced_accuracy=0.8125, macro_f1=0.7891)
    (small,) = plain.scores.students
    runs = tuple(
        run.model_copy(update={"student": run.student.model_copy(update={"classes": classes})}) for run in small.runs
    )
    scores = plain.scores.model_copy(update={"students": (small.model_copy(update={"runs": runs}),)})
    told = plain.model_copy(update={"scores": scores})

    assert "macro" not in shown(plain)
    assert "81.25%" in shown(told)
    assert "78.91%" in shown(told)
    assert {(row["balanced_accuracy"], row["macro_f1"]) for row in told.rows()} == {(0.8125, 0.7891), (None, None)}
    assert PipelineResults.model_validate_json(told.model_dump_json()) == told
