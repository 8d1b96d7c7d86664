"""Results: what came out of a pipeline, for programs and notebooks."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from shared.records import EvaluationRecord, Model, ReportRecord, StageRecord, StageWarning

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["teacher", "student", "control"]
Row = dict[str, str | int | float | None]
#: The columns of a row, in order; the facts of `EvaluationRecord` under its own names.
COLUMNS = (
    "pipeline", "model", "role", "seed", "accuracy", "gain", "negative_log_likelihood", "agreement", "parameters",
    "multiply_adds", "size_bytes", "latency_median_ms", "latency_p95_ms", "throughput", "device", "training_seconds",
    "samples",
)  # fmt: skip


class PipelineResults(Model):
    """What came out of a pipeline: the report's scores, and how each stage's result was come by."""

    id: str
    name: str
    scores: ReportRecord
    stages: tuple[StageRecord, ...]
    #: What they warn of; left out where there is nothing.
    warnings: Annotated[tuple[StageWarning, ...], Field(exclude_if=lambda warnings: not warnings)] = ()

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
        return html_table(shown, [[_in_words(name, row[name]) for name in shown] for row in self.rows()])

    def _rows(self) -> Iterator[Row]:
        if self.scores.teacher:
            yield self._row("teacher", "teacher", None, self.scores.teacher)
        for number, teacher in enumerate(self.scores.teachers, start=1):
            yield self._row(f"teacher {number}", "teacher", None, teacher)
        for score in self.scores.students:
            for run in score.runs:
                gain = run.student.accuracy - run.control.accuracy if run.control else None
                yield self._row(score.name, "student", run.seed, run.student, gain)
                if run.control:
                    yield self._row(score.name, "control", run.seed, run.control)

    def _row(
        self, model: str, role: Role, seed: int | None, record: EvaluationRecord, gain: float | None = None
    ) -> Row:
        facts = {"pipeline": self.id, "model": model, "role": role, "seed": seed, "gain": gain}
        return {name: facts[name] if name in facts else getattr(record, name) for name in COLUMNS}


def html_table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    """A plain HTML table, for notebooks."""
    lines = ["".join(f"<th>{escape(name)}</th>" for name in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _in_words(name: str, value: str | float | None) -> str:
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
