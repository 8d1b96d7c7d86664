"""Section 3 of Hinton, Vinyals and Dean 2015 on MNIST: errors of 10,000 beside the published ones.

A student whose transfer set lacks classes has their logits too low. As in the paper, one constant is added to the
logits of all missing classes, the one with the fewest errors: on training samples, of which the student has not seen
those of these classes (on held-out samples where the spec has some), and also on the test set itself, as the paper
chose it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmarks.reproduce import words
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures, Student
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import Workplace
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.transfer import Classes
from distill_queue.shared.store.store import store_of
from distill_queue.worker.evaluation.scores import estimate

if TYPE_CHECKING:
    from distill_queue.worker.stages.context import StageContext

SPECS = ROOT / "examples"
#: The spec that follows the paper, and its student that is built and taught as the paper's.
PAPER, AS_PUBLISHED = "hinton-mnist", "units-800"
#: Errors on the test set in the paper: the teacher's, and those of students of two layers of 800 units.
TEACHER, ALONE, DISTILLED = 67, 146, 74
#: Errors of students whose transfer set lacks classes, and with the biases put right; by `only` and `without`.
TRANSFERRED: dict[tuple[Classes, Classes], tuple[int, ...]] = {((), (3,)): (206, 109), ((7, 8), ()): (4_730, 1_320)}
#: The constants that are tried.
CONSTANTS = np.linspace(-20.0, 40.0, 601)

Logits = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


def specs() -> list[Path]:
    """All that are named after the paper."""
    return sorted(SPECS.glob("hinton*.yaml"))


def measure(spec: Path, workplace: Workplace) -> Iterator[Outcome]:
    """Run a spec, and count errors."""
    _, outcome = workplace.run(spec)
    loaded = PipelineSpec.load(spec)
    given = {student.name: student for student in loaded.students if isinstance(student, StudentSpec)}
    plan, reader = Plan.of(loaded), Reader(workplace.store)
    students = []
    for student, runs in zip(outcome.students, plan.students, strict=True):
        counts = {"errors": _errors(student.accuracies, outcome), "published": published(given.get(student.name))}
        if student.control_accuracies:
            counts["control errors"] = _errors(student.control_accuracies, outcome)
        evaluations = [reader.evaluation(plan, runs.role(seed)) for seed in runs.seeds]
        counts |= put_right(reader, evaluations, given.get(student.name))
        students.append(student.model_copy(update={"counts": {name: each for name, each in counts.items() if each}}))
    yield outcome.model_copy(update={"students": tuple(students)})


def published(student: StudentSpec | None) -> tuple[float, ...]:
    """The paper's errors of a student, as it is and with the biases put right; none where the paper has none."""
    if student is None or not isinstance(student.model, MlpSpec) or student.model.hidden != (800, 800):
        return ()
    if not student.transfer.changes_nothing:
        return TRANSFERRED.get((student.transfer.only, student.transfer.without), ())
    return (DISTILLED,) if student.distillation.temperature == 20 else ()


def put_right(reader: Reader, evaluations: list[Stage], student: StudentSpec | None) -> dict[str, tuple[float, ...]]:
    """Errors with the biases of the missing classes put right, seed by seed; nothing where no class is missing."""
    if student is None or student.transfer.changes_nothing:
        return {}
    counts: dict[str, list[float]] = {}
    for evaluation in evaluations:
        context = reader.context(evaluation)
        names = context.dataset.class_names
        missing = np.ones(len(names), dtype=bool)
        missing[list(student.transfer.classes(names) or ())] = False
        chosen_on = "validation" if context.dataset.validation_samples else "train"
        samples, test = (reader.logits(context, evaluation, split) for split in (chosen_on, "test"))
        constant, of_test = best_constant(*samples, missing), best_constant(*test, missing)
        wrong = predicted(test[0], missing, 0.0) != test[1]
        for name, count in (
            ("errors of missing classes", wrong[missing[test[1]]].sum()),
            ("constant", constant),
            ("errors put right", (predicted(test[0], missing, constant) != test[1]).sum()),
            ("constant of the test set", of_test),
            ("errors put right on the test set", (predicted(test[0], missing, of_test) != test[1]).sum()),
        ):
            counts.setdefault(name, []).append(round(float(count), 2))
    return {name: tuple(each) for name, each in counts.items()}


def predicted(logits: Logits, missing: npt.NDArray[np.bool_], constant: float) -> Numbers:
    """The class `[samples]` that logits `[samples, classes]` give with a constant added to those of missing classes."""
    return (logits + constant * missing).argmax(axis=1)


def best_constant(logits: Logits, targets: Numbers, missing: npt.NDArray[np.bool_]) -> float:
    """The constant for the logits of missing classes with the fewest errors; the middle one of several."""
    seen_best, missing_best = (np.where(mask, logits, -np.inf) for mask in (~missing, missing))
    seen_right, missing_right = (best.argmax(axis=1) == targets for best in (seen_best, missing_best))
    lead = seen_best.max(axis=1) - missing_best.max(axis=1)  # Above it, the sample is given a missing class.
    right = np.array([np.where(constant > lead, missing_right, seen_right).sum() for constant in CONSTANTS])
    best = np.flatnonzero(right == right.max())
    return float(CONSTANTS[best[len(best) // 2]])


class Reader:
    """Reads models and data from a store, as workers do."""

    def __init__(self, store: Path) -> None:
        """Open the store."""
        import torch

        from distill_queue.worker.machine.runtime import Runtime
        from distill_queue.worker.stages.runner import StageRunner

        self._runner = StageRunner(store_of(Settings(store=str(store))), Runtime(torch.device("cpu")), lambda *_: None)

    def evaluation(self, plan: Plan, role: str) -> Stage:
        """The evaluation of a role in the report."""
        key = plan.report.inputs[role].key
        return next(stage for stage in plan.stages if stage.key == key)

    def context(self, evaluation: Stage) -> StageContext:
        """What the evaluation worked with."""
        return self._runner.context(self._runner.opened(evaluation), Path())

    def logits(self, context: StageContext, evaluation: Stage, split: str) -> tuple[Logits, Numbers]:
        """The model's logits `[samples, classes]` of a split, and the targets `[samples]`."""
        from distill_queue.worker.evaluation import quality

        assert isinstance(evaluation.recipe, Evaluate), "a report's inputs are evaluations"
        data = context.split(split)
        model = context.model("model", evaluation.recipe.seed)
        return quality.logits_of(model, data, lambda *_: None).numpy(), data.targets.numpy()


def table(figures: SectionFigures) -> str:
    """The teacher and each student, in errors of 10,000."""
    head = (
        "", "errors of 10,000", "published", "control's errors", "of the gap", "missing classes put right",
        "put right on the test set", "published", "minutes",
    )  # fmt: skip
    rows: list[tuple[str, ...]] = []
    for outcome in figures.outcomes:
        file, minutes = (
            f"[{outcome.name}](../{outcome.spec})",
            "" if outcome.minutes is None else f"{outcome.minutes:.0f}",
        )
        if outcome.teacher is not None:
            errors = str(round((1 - outcome.teacher) * outcome.test_samples))
            rows.append((f"{file}: teacher", errors, str(TEACHER), "", "", "", "", "", minutes))
        rows += [_row(f"{file}: {student.name}", student) for student in outcome.students]
    return words.table(head, rows)


def short_table(figures: SectionFigures) -> str:
    """The teacher, the student alone and the student that the paper has, for the README."""
    head = ("errors of 10,000 on MNIST", "published", "here")
    outcome = figures.find(PAPER)
    if outcome is None or outcome.teacher is None:
        return words.table(head, [])
    student = outcome.student(AS_PUBLISHED)
    teacher = str(round((1 - outcome.teacher) * outcome.test_samples))
    rows = [
        ("teacher, 2 x 1,200 units, regularised", str(TEACHER), teacher),
        ("student, 2 x 800 units, without the teacher", str(ALONE), _count(student, "control errors")),
        ("the same student, distilled", str(DISTILLED), _count(student, "errors")),
    ]
    return words.table(head, rows)


def _row(name: str, student: Student) -> tuple[str, ...]:
    published = [f"{each:,.0f}" for each in student.counts.get("published", ())]
    return (
        name,
        _count(student, "errors"),
        published[0] if published else "",
        _count(student, "control errors"),
        words.share(student.gap_closed),
        _count(student, "errors put right"),
        _count(student, "errors put right on the test set"),
        published[1] if len(published) > 1 else "",
        "",
    )


def _count(student: Student, name: str) -> str:
    counts = student.counts.get(name)
    return words.count(estimate(counts)) if counts else ""


def _errors(accuracies: tuple[float, ...], outcome: Outcome) -> tuple[float, ...]:
    return tuple(float(round((1 - accuracy) * outcome.test_samples)) for accuracy in accuracies)


SECTION = Section("hinton", specs, measure, {"hinton": table, "hinton short": short_table})
