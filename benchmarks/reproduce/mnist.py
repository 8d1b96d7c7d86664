"""The job that this project grew from, on MNIST: the notebook as it stands, our `mnist.yaml`, and what helps it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from benchmarks.gpu import digits
from benchmarks.main_job import process
from benchmarks.reproduce import words
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures, Student
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import Workplace, machine, today, versions
from distill_queue.worker.evaluation.scores import estimate, score

SPEC, TEACHER, BETTER = (
    ROOT / "examples" / f"{name}.yaml" for name in ("mnist", "mnist-better-teacher", "mnist-better")
)
NOTEBOOK = ROOT / "benchmarks" / "notebook.py"
SEEDS = 5
TEST_SAMPLES = 10_000


def specs() -> list[Path]:
    """The notebook, its job here, and what helps it."""
    return [NOTEBOOK, SPEC, TEACHER, BETTER]


def measure(spec: Path, workplace: Workplace) -> Iterator[Outcome]:
    """Run the notebook and its job here with each seed; the other specs have several seeds of their own."""
    if spec == NOTEBOOK:
        yield notebook()
    else:
        yield job(workplace) if spec == SPEC else workplace.run(spec)[1]


def job(workplace: Workplace) -> Outcome:
    """Run `mnist.yaml` with each seed, as the notebook: teacher, student and control of a seed are trained in turn."""
    changes = ((f"teacher.training.seed={seed}", f"students.0.training.seed={seed}") for seed in range(SEEDS))
    runs = [workplace.run(SPEC, *each) for each in changes]
    (first, *_), outcome = (results.scores.students[0] for results, _ in runs), runs[0][1]
    scored = score(first.name, tuple(results.scores.students[0].runs[0] for results, _ in runs), None)
    return outcome.model_copy(
        update={
            "command": f"{outcome.command} --set teacher.training.seed=SEED --set students.0.training.seed=SEED",
            "minutes": round(sum(each.minutes or 0.0 for _, each in runs), 2),
            "teacher": fmean(each.teacher or 0.0 for _, each in runs),
            "counts": {"teacher_accuracy": tuple(each.teacher or 0.0 for _, each in runs)},
            "teacher_seconds": fmean(each.teacher_seconds or 0.0 for _, each in runs),
            "students": (Student.of(scored),),
        }
    )


def notebook() -> Outcome:
    """Train the notebook's models with five seeds, each in a process of its own, from the same files."""
    with tempfile.TemporaryDirectory() as name:
        if digits.provide(Path(name)) != "MNIST":
            raise SystemExit(f"error: no MNIST for the notebook: {digits.VARIABLE} names a folder with its four files")
        runs = [process(sys.executable, "benchmarks.notebook", seed, "--mnist", name) for seed in range(SEEDS)]
    return Outcome(
        name=NOTEBOOK.stem,
        command="python -m benchmarks.notebook SEED --mnist FOLDER",
        date=today(),
        machine=machine(),
        versions=versions(),
        minutes=round(sum(run["whole_seconds"] for run in runs) / 60, 2),
        test_samples=TEST_SAMPLES,
        counts={key: tuple(round(run[key], 6) for run in runs) for key in runs[0]},
    )


def table(figures: SectionFigures) -> str:
    """All models, with the seconds of one training."""
    head = ("", "accuracy", "seconds of a training", "gain over the control", "verdict")
    rows: list[tuple[str, ...]] = []
    if found := figures.find(NOTEBOOK.stem):
        for model in ("teacher", "student"):
            accuracy = words.accuracy(estimate(found.counts[f"{model}_accuracy"]))
            rows.append((f"notebook: {model}", accuracy, f"{fmean(found.counts[f'{model}_seconds']):.1f}", "", ""))
    for outcome in figures.outcomes:
        if not outcome.spec:
            continue
        file = f"[{outcome.name}.yaml](../{outcome.spec})"
        rows.append(
            (f"{file}: teacher", f"{100 * (outcome.teacher or 0):.2f}", _seconds(outcome.teacher_seconds), "", "")
        )
        for student in outcome.students:
            gain = words.gain(student.gain, student.verdict)
            accuracy = words.accuracy(student.accuracy)
            rows.append((f"{file}: {student.name}", accuracy, _seconds(student.seconds), gain, student.verdict))
            control = words.accuracy(student.control_accuracy)
            rows.append((f"{file}: its control", control, _seconds(student.control_seconds), "", ""))
    return words.table(head, rows)


def gain(figures: SectionFigures) -> str:
    """What the teacher brings in the better recipe."""
    return _gain(figures, BETTER)


def change(figures: SectionFigures) -> str:
    """What the teacher brings once its own training is better, and nothing else has changed."""
    return _gain(figures, TEACHER)


def loss(figures: SectionFigures) -> str:
    """What the teacher brings in the notebook's recipe."""
    return _gain(figures, SPEC)


def times(figures: SectionFigures) -> str:
    """How much faster both trainings are."""
    notebook, ours = figures.find(NOTEBOOK.stem), figures.find(SPEC.stem)
    if not notebook or not ours or ours.teacher_seconds is None or ours.students[0].seconds is None:
        return ""
    theirs = fmean(notebook.counts["training_seconds"])
    return f"{theirs / (ours.teacher_seconds + ours.students[0].seconds):.1f}"


def _gain(figures: SectionFigures, spec: Path) -> str:
    outcome = figures.find(spec.stem)
    return words.gain(outcome.students[0].gain, "") if outcome else ""


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


SECTION = Section(
    "mnist",
    specs,
    measure,
    {"mnist": table, "mnist teacher": change, "mnist gain": gain, "mnist notebook": loss, "mnist times": times},
)
