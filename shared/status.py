"""Where pipelines stand: what the ledger keeps of each stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from shared.line import Line, Lines
from shared.plan import Plan
from shared.records import Model, StageRecord, StageWarning, warnings_of
from shared.stage import Stage


class StageState(Model):
    """Where a stage of a pipeline stands."""

    state: Literal["waiting", "running", "done", "failed", "blocked", "cancelled"] = "waiting"
    #: What it does or waits for now, in words.
    progress: Line = ""
    #: The part of it that is done, from 0 to 1, where that can be told.
    share: float | None = None
    #: When its present attempt began, in seconds since the epoch by the worker's clock; of running stages only.
    began: float | None = None
    worker: Line = ""
    error: Lines = ""
    record: StageRecord | None = None


class PipelineStatus(Model):
    """Where a pipeline stands; `states` has one entry a stage, by key, in the plan's order."""

    id: str
    #: Seconds since the epoch.
    submitted: float
    plan: Plan
    states: dict[str, StageState]

    @property
    def state(self) -> Literal["waiting", "running", "done", "failed", "cancelled"]:
        """`failed` once a stage failed and nothing is left that could still run."""
        found = {state.state for state in self.states.values()}
        if "cancelled" in found:
            return "cancelled"
        if found == {"done"}:
            return "done"
        if "failed" in found and not found & {"waiting", "running"}:
            return "failed"
        return "waiting" if found == {"waiting"} else "running"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "cancelled")

    @property
    def warnings(self) -> tuple[StageWarning, ...]:
        """What its stages warn of, in the plan's order; that which the spec accepts as well."""
        return tuple(warning for stage in self.plan.stages for warning in self.warnings_of(stage))

    def warnings_of(self, stage: Stage) -> Iterator[StageWarning]:
        """What one of its stages warns of, once it is done."""
        done = self.states[stage.key].record
        for each in warnings_of(done.record) if done else ():
            accepted = each.kind in self.plan.accept
            yield StageWarning(stage=stage.title, kind=each.kind, text=each.text, accepted=accepted)

    @property
    def errors(self) -> list[str]:
        """The errors of the stages that failed."""
        return [state.error for state in self.states.values() if state.state == "failed"]


def in_words(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
