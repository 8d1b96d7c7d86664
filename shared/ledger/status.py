"""Where pipelines stand: what the ledger keeps of each stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import ConfigDict

from distill_queue.shared.broker.signing import unsealed
from distill_queue.shared.errors import UnknownPipeline, UnreadableRecord
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import Line, Lines
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.stage_record import StageRecord, StageWarning, warnings_of
from distill_queue.shared.text import plain_line

#: The last time that a calendar has, in seconds since the epoch.
LAST_TIME = 253_402_300_799.0


class State(StrEnum):
    """Where a stage or a pipeline stands; the values are what the broker, JSON and people read."""

    #: Nothing of it has begun: it waits for other stages, or in a queue.
    WAITING = "waiting"
    #: A worker is at it; of a pipeline: something of it has begun, and more is to come.
    RUNNING = "running"
    #: Its result is in the store.
    DONE = "done"
    #: It ended for good without a result.
    FAILED = "failed"
    #: It never begins, since a stage before it failed; no pipeline stands so.
    BLOCKED = "blocked"
    #: Its pipeline was cancelled before it was done.
    CANCELLED = "cancelled"


class StageState(Frozen):
    """Where a stage of a pipeline stands."""

    model_config = ConfigDict(allow_inf_nan=False)

    state: State = State.WAITING
    #: What it does or waits for now, in words.
    progress: Line = ""
    #: The part of it that is done, from 0 to 1, where that can be told.
    share: float | None = None
    #: When its present attempt began, in seconds since the epoch by the worker's clock; of running stages only.
    began: float | None = None
    worker: Line = ""
    error: Lines = ""
    record: StageRecord | None = None


#: The state of stages without news; one object for all of them, as a long queue has many.
WAITING = StageState()


class PipelineStatus(Frozen):
    """Where a pipeline stands; `states` has one entry a stage, by key, in the plan's order."""

    id: str
    #: Seconds since the epoch.
    submitted: float
    plan: Plan
    states: dict[str, StageState]

    @classmethod
    def of(cls, pipeline: str, fields: Mapping[str, str]) -> Self:
        """Where a pipeline stands whose hash in the ledger has these fields.

        A stage whose state or record cannot be read costs only itself: it has no state, or no record.

        Raises:
            UnknownPipeline: the hash is not there, or has no plan.
            UnreadableRecord: its plan, or the time at which it was submitted, cannot be read.

        """
        if "plan" not in fields:
            raise unknown(pipeline)
        plan = Plan.read(unsealed(fields["plan"]), f"the plan of {pipeline!r}")
        states = {stage.key: _state(fields, stage.key) for stage in plan.stages}
        for key in plan.blocked_by({key for key, state in states.items() if state.state == State.FAILED}):
            if states[key].state != State.DONE:
                states[key] = StageState(state=State.BLOCKED)
        if "cancelled" in fields:
            unfinished = [
                key for key, state in states.items() if state.state in (State.WAITING, State.RUNNING, State.BLOCKED)
            ]
            states |= dict.fromkeys(unfinished, StageState(state=State.CANCELLED))
        submitted = _time(fields.get("submitted", ""), f"the time of submission of {pipeline!r}")
        return cls(id=pipeline, submitted=submitted, plan=plan, states=states)

    @property
    def state(self) -> State:
        """`failed` once a stage failed and nothing is left that could still run."""
        found = {state.state for state in self.states.values()}
        if State.CANCELLED in found:
            return State.CANCELLED
        if found == {State.DONE}:
            return State.DONE
        if State.FAILED in found and not found & {State.WAITING, State.RUNNING}:
            return State.FAILED
        return State.WAITING if found == {State.WAITING} else State.RUNNING

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (State.DONE, State.FAILED, State.CANCELLED)

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
        return [state.error for state in self.states.values() if state.state == State.FAILED]


@dataclass(frozen=True, slots=True)
class UnreadablePipeline:
    """A pipeline whose record at the broker this version cannot read."""

    id: str
    #: In one line, with the pipeline's id.
    why: str


def standing(pipeline: str, fields: Mapping[str, str]) -> PipelineStatus | UnreadablePipeline | None:
    """Where a pipeline stands whose hash has these fields; None for one whose history has run out."""
    try:
        return PipelineStatus.of(pipeline, fields)
    except UnknownPipeline:
        return None
    except UnreadableRecord as error:
        return UnreadablePipeline(pipeline, str(error))


def unknown(pipeline: str) -> UnknownPipeline:
    """The error that the broker knows no pipeline of an id."""
    return UnknownPipeline(f"no pipeline '{pipeline}' at the broker: 'distill status' lists them")


def _state(fields: Mapping[str, str], key: str) -> StageState:
    """Where a stage stands: as its record says, if there is one, or as was last said of it."""
    if record := fields.get(f"record:{key}"):
        try:
            done = StageRecord.read(record, "its record")
        except UnreadableRecord as error:
            return StageState(state=State.DONE, progress=str(error))
        return StageState(state=State.DONE, progress=done.record.summary, worker=done.worker, record=done)
    state = fields.get(f"state:{key}")
    try:
        return StageState.read(state, "its state") if state else WAITING
    except UnreadableRecord as error:
        return StageState(progress=str(error))


def _time(text: str, name: str) -> float:
    """Seconds since the epoch."""
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0.0 <= time <= LAST_TIME:
        raise UnreadableRecord(f"{name} is not readable: {plain_line(text, 40)!r} is no time")
    return time


def duration_in_words(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
