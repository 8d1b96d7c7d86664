"""Results: what came out of a pipeline, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate, StudentRuns
from distill_queue.shared.results.records import ChoiceRecord, EvaluationRecord, TrainingRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.results.stage_record import Record, StageRecord, StageWarning

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["teacher", "student", "control"]
Row = dict[str, str | int | float | None]
#: The columns of a row, in order; the facts of `EvaluationRecord` under its own names.
COLUMNS = (
    "pipeline", "model", "role", "seed", "accuracy", "gain", "negative_log_likelihood", "agreement", "parameters",
    "multiply_adds", "size_bytes", "latency_median_ms", "latency_p95_ms", "throughput", "device", "training_seconds",
    "samples", "held_out_accuracy", "trained_parameters", "balanced_accuracy", "macro_f1",
)  # fmt: skip


class PipelineResults(Frozen):
    """What came out of a pipeline: the report's scores, and how the pipeline came by each stage's result."""

    id: str
    name: str
    scores: ReportRecord
    stages: tuple[StageRecord, ...]
    #: What the stages warn of; left out where there is nothing.
    warnings: Annotated[tuple[StageWarning, ...], Field(exclude_if=lambda warnings: not warnings)] = ()
    #: Accuracy on held-out samples after the training, by the model's role in the report; of those that have one.
    held_out: dict[str, float] = Field(default={})

    @classmethod
    def of(
        cls,
        pipeline: str,
        plan: Plan,
        scores: ReportRecord,
        stages: tuple[StageRecord, ...],
        warnings: tuple[StageWarning, ...] = (),
    ) -> Self:
        """The results of a pipeline, whose plan tells which training is whose."""
        held_out = dict(_held_out(plan, {each.key: each.record for each in stages}))
        return cls(id=pipeline, name=plan.name, scores=scores, stages=stages, warnings=warnings, held_out=held_out)

    def rows(self) -> list[Row]:
        """One row a model and seed, with `COLUMNS`: teachers, then each student beside its control.

        Accuracies, agreements and gains are shares of 1; a gain is the student's accuracy less its control's.
        """
        return list(self._rows())

    def frame(self) -> pd.DataFrame:
        """The rows as a pandas frame.

        Raises:
            ImportError: pandas is not installed.

        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("a frame needs pandas: pip install pandas; rows() does without") from error

        return pd.DataFrame(self.rows(), columns=list(COLUMNS))

    def _repr_html_(self) -> str:
        """The rows as a table, for notebooks."""
        shown = ("model", "role", "seed", "accuracy", "gain", "parameters", "latency_median_ms")
        return html_table(shown, [[_cell(name, row[name]) for name in shown] for row in self.rows()])

    def _rows(self) -> Iterator[Row]:
        if self.scores.teacher:
            yield self._row("teacher", "teacher", None, self.scores.teacher)
        for number, teacher in enumerate(self.scores.teachers, start=1):
            yield self._row(f"teacher {number}", "teacher", None, teacher)
        for score in self.scores.students:
            runs = StudentRuns.model_construct(name=score.name, seeds=tuple(run.seed for run in score.runs))
            for run in score.runs:
                gain = run.student.accuracy - run.control.accuracy if run.control else None
                yield self._row(score.name, "student", run.seed, run.student, gain, runs.role(run.seed))
                if run.control:
                    yield self._row(score.name, "control", run.seed, run.control, None, runs.control(run.seed))

    def _row(
        self,
        model: str,
        role: Role,
        seed: int | None,
        record: EvaluationRecord,
        gain: float | None = None,
        in_report: str = "",
    ) -> Row:
        facts = {"pipeline": self.id, "model": model, "role": role, "seed": seed, "gain": gain} | {
            "held_out_accuracy": self.held_out.get(in_report or model),
            "trained_parameters": record.parameters if record.trained_parameters is None else record.trained_parameters,
            "balanced_accuracy": record.classes.balanced_accuracy if record.classes else None,
            "macro_f1": record.classes.macro_f1 if record.classes else None,
        }
        return {name: facts[name] if name in facts else getattr(record, name) for name in COLUMNS}


def _held_out(plan: Plan, records: dict[str, Record]) -> Iterator[tuple[str, float]]:
    """The held-out accuracy of each role's training, or of the one that was chosen from a grid with the role's seed."""
    evaluations = {stage.key: stage for stage in plan.stages if isinstance(stage.recipe, Evaluate)}
    for role, ref in plan.report.inputs.items():
        if ref.key not in evaluations:  # A choice, which is no model.
            continue
        evaluation = evaluations[ref.key]
        trained = records.get(evaluation.inputs["model"].key)
        if isinstance(trained, ChoiceRecord) and isinstance(evaluation.recipe, Evaluate):
            trained = trained.trained.get(evaluation.recipe.seed or 0)
        if isinstance(trained, TrainingRecord) and trained.held_out_accuracy is not None:
            yield role, trained.held_out_accuracy


def html_table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A plain HTML table, for notebooks."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _cell(name: str, value: str | float | None) -> str:
    if value is None:
        return ""
    match name:
        case "accuracy":
            return f"{value:.2%}"
        case "gain":
            return f"{100 * float(value):+.2f}"
        case "parameters":
            return f"{value:,}"
        case "latency_median_ms":
            return f"{value:.3f}"
    return str(value)
