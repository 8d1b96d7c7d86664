"""Where pipelines stand: what the ledger keeps of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from shared.errors import UnknownPipeline
from shared.line import Line, Lines
from shared.plan import Plan
from shared.records import Model, StageRecord, StageWarning, warnings_of
from shared.seal import unsealed
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


#: Of which nothing was said yet; one for all, as most stages of a long queue stand so.
WAITING = StageState()


class PipelineStatus(Model):
    """Where a pipeline stands; `states` has one entry a stage, by key, in the plan's order."""

    id: str
    #: Seconds since the epoch.
    submitted: float
    plan: Plan
    states: dict[str, StageState]

    @classmethod
    def of(cls, pipeline: str, fields: Mapping[str, str]) -> Self:
        """Where a pipeline stands whose hash in the ledger has these fields.

        Raises:
            UnknownPipeline: the hash is not there, or has no plan.

        """
        if "plan" not in fields:
            raise unknown(pipeline)
        plan = Plan.model_validate_json(unsealed(fields["plan"]))
        states = {stage.key: _state(fields, stage.key) for stage in plan.stages}
        for key in plan.blocked_by({key for key, state in states.items() if state.state == "failed"}):
            if states[key].state != "done":
                states[key] = StageState(state="blocked")
        if "cancelled" in fields:
            unfinished = [key for key, state in states.items() if state.state in ("waiting", "running", "blocked")]
            states |= dict.fromkeys(unfinished, StageState(state="cancelled"))
        return cls(id=pipeline, submitted=float(fields["submitted"]), plan=plan, states=states)

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


def unknown(pipeline: str) -> UnknownPipeline:
    """The error that the broker knows no pipeline of an id."""
    return UnknownPipeline(f"no pipeline '{pipeline}' at the broker: 'distill status' lists them")


def _state(fields: Mapping[str, str], key: str) -> StageState:
    """Where a stage stands: as its record says, if there is one, or as was last said of it."""
    if record := fields.get(f"record:{key}"):
        done = StageRecord.model_validate_json(record)
        return StageState(state="done", progress=done.record.summary, worker=done.worker, record=done)
    state = fields.get(f"state:{key}")
    return StageState.model_validate_json(state) if state else WAITING


def in_words(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
