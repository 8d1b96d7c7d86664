"""The ledger: what the broker's Redis knows of each pipeline, written by workers, read by clients."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.connection import broker_errors
from distill_queue.shared.broker.signing import NO_KEYS, Keyring
from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.ledger.status import PipelineStatus, StageState, State, UnreadablePipeline, standing, unknown
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import STAGE_FORMAT
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.skipped import quoted
from distill_queue.shared.spelling import is_pipeline_id

#: Sets the states of stages, unless they were changed meanwhile. Its arguments are three for each stage: the field,
#: the text that was read, and the text to set.
_REPLACE = """
for i = 1, #ARGV, 3 do
    if redis.call('hget', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('hset', KEYS[1], ARGV[i], ARGV[i + 2]) end
end
"""

#: Pipelines that are looked for at once.
PAGE_PIPELINES = 500


class Ledger:
    """One hash a pipeline: its plan, and of each stage its state and, once done, its record."""

    def __init__(self, client: BrokerClient, history_seconds: int) -> None:
        self._redis: Any = client
        self._names, self._skipped = client.names, client.skipped
        self._history_seconds = history_seconds
        self._replace = self._redis.register_script(_REPLACE)

    def open(self, pipeline: str, plan: Plan, keyring: Keyring = NO_KEYS) -> None:
        """Enter a new pipeline with its sealed plan; stages that failed for good before are tried again."""
        now, text = time.time(), keyring.seal("plan", plan.model_dump_json())
        with self._writing(pipeline) as pipe:
            pipe.hset(self._names.pipeline(pipeline), mapping={"plan": text, "submitted": now})
            pipe.zadd(self._names.pipelines, {pipeline: now})
            pipe.zadd(self._names.unfinished, {pipeline: now})
            pipe.delete(*(self._names.failure(stage.key) for stage in plan.stages))

    def touch(self, pipeline: str) -> None:
        """Note that something was heard of a pipeline."""
        with self._writing(pipeline):
            pass

    def close(self, pipeline: str) -> None:
        """Note that a pipeline is finished."""
        with broker_errors(), self._skipped.unreadable(self._names.unfinished):
            self._redis.zrem(self._names.unfinished, pipeline)

    def untouched_since(self, then: float) -> list[str]:
        """Unfinished pipelines without news since a time, in seconds since the epoch."""
        with broker_errors():
            pipelines: list[str] = self._redis.zrangebyscore(self._names.unfinished, "-inf", then)
        return self._with_ids(pipelines)

    def plan(self, pipeline: str, keyring: Keyring) -> Plan:
        """The plan of a pipeline, checked so that it may be obeyed.

        Raises:
            UnknownPipeline: the broker knows none of this id.
            Untrusted: the plan was not sealed with one of the keys.
            UnreadableRecord: this version cannot read it, or does not know all that its stages say.

        """
        with broker_errors():
            text = self._redis.hget(self._names.pipeline(pipeline), "plan")
        if text is None:
            raise unknown(pipeline)
        name = f"the plan of {quoted(pipeline)}"
        plan = Plan.read(keyring.open("plan", text), name)
        if max(stage.format for stage in plan.stages) > STAGE_FORMAT:
            raise UnreadableRecord(f"{name} was written by a newer version of distill-queue: use that one")
        return plan

    def plan_texts(self) -> Iterator[tuple[str, str]]:
        """Each known pipeline's id and plan, as JSON that another version may have written; read page by page."""
        with broker_errors():
            names = list(self._redis.scan_iter(self._names.pipeline("*"), count=1000))
            for start in range(0, len(names), PAGE_PIPELINES):
                page = names[start : start + PAGE_PIPELINES]
                with self._redis.pipeline(transaction=False) as pipe:
                    for name in page:
                        pipe.hget(name, "plan")
                    # Of a value of another type, no version has a plan.
                    texts = self._skipped.among(pipe.execute(raise_on_error=False))
                for name, text in zip(page, texts, strict=True):
                    if isinstance(text, str):
                        yield name.removeprefix(self._names.pipeline("")), text

    def leased(self) -> set[str]:
        """Keys of the stages that workers work on now."""
        with broker_errors():
            names = self._redis.scan_iter(self._names.lease("*"), count=1000)
            return {name.removeprefix(self._names.lease("")) for name in names}

    def cancel(self, pipeline: str) -> None:
        """Note that a pipeline is cancelled: no further stage of it starts, and running ones stop."""
        with self._writing(pipeline) as pipe:
            pipe.hset(self._names.pipeline(pipeline), "cancelled", time.time())

    def is_cancelled(self, pipeline: str) -> bool:
        """Whether a pipeline was cancelled."""
        with broker_errors():
            return bool(self._redis.hexists(self._names.pipeline(pipeline), "cancelled"))

    def note(self, pipeline: str, keys: Iterable[str], state: StageState) -> None:
        """Note where stages stand."""
        self._set_states(pipeline, keys, state)

    def wait(self, pipeline: str, keys: Iterable[str], reason: str) -> None:
        """Note that stages wait, and why."""
        self._set_states(pipeline, keys, StageState(progress=reason))

    def restate(
        self, pipeline: str, keys: Sequence[str], worker: str, change: Callable[[StageState], StageState]
    ) -> None:
        """Change the states of those of some stages that a worker was last heard to work on; leave the others alone.

        A state that is written between the look and the change is left alone, as when another worker ends the stage; so
        is one of another version, which this one cannot read.
        """
        with broker_errors():
            name, fields = self._names.pipeline(pipeline), [f"state:{key}" for key in keys]
            with self._redis.pipeline(transaction=False) as pipe:
                for field in fields:
                    pipe.hget(name, field)
                texts = pipe.execute()
            changes: list[str] = []
            for field, text in zip(fields, texts, strict=True):
                with suppress(UnreadableRecord):
                    state = StageState.read(text or "{}", field)
                    if (state.state, state.worker) == (State.RUNNING, worker):
                        changes += [field, text, _as_text(change(state))]
            if changes:
                self._replace(keys=[name], args=changes)

    def fail(self, pipeline: str, key: str, error: str, worker: str) -> None:
        """Note that a stage failed for good."""
        self._set_states(pipeline, [key], StageState(state=State.FAILED, error=error, worker=worker))

    def give_up(self, key: str, error: str) -> None:
        """Note that a stage failed for good: no pipeline tries it again, until one is submitted that needs it."""
        with broker_errors():
            self._redis.set(self._names.failure(key), error, ex=self._history_seconds)

    def failure(self, key: str) -> str:
        """The error with which a stage was given up, if it was."""
        with broker_errors():
            return self._redis.get(self._names.failure(key)) or ""

    def finish(self, pipeline: str, record: StageRecord, also: Callable[[Any], object] | None = None) -> StageRecord:
        """Enter a stage's record and return it, or the one that stands there already.

        Args:
            pipeline: its id.
            record: what to enter.
            also: adds to what is sent, in the same round trip.

        """
        name = f"record:{record.key}"
        with broker_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hsetnx(self._names.pipeline(pipeline), name, record.model_dump_json())
            pipe.hget(self._names.pipeline(pipeline), name)
            if also:
                also(pipe)
            self._put_off(pipe, pipeline)
            entered, text, *_ = self._execute(pipe, pipeline)
        if entered:
            return record
        with self._skipped.unreadable(f"{pipeline} {name}"):
            return StageRecord.read(text, f"{quoted(name)} of {quoted(pipeline)}")
        return record

    def status(self, pipeline: str) -> PipelineStatus:
        """Where a pipeline stands.

        Raises:
            UnknownPipeline: the broker knows none of this id.
            UnreadableRecord: it knows one, and this version cannot read what it is.
            BrokerUnavailable: the broker does not answer.

        """
        with broker_errors():
            fields = self._redis.hgetall(self._names.pipeline(pipeline))
        return PipelineStatus.of(pipeline, fields)

    def standings(self, pipelines: Sequence[str]) -> Iterator[PipelineStatus | UnreadablePipeline]:
        """Where pipelines stand, as far as the broker still knows them; read page by page, as there may be many."""
        for start in range(0, len(pipelines), PAGE_PIPELINES):
            page = pipelines[start : start + PAGE_PIPELINES]
            with broker_errors(), self._redis.pipeline(transaction=False) as pipe:
                for pipeline in page:
                    pipe.hgetall(self._names.pipeline(pipeline))
                answers = pipe.execute(raise_on_error=False)
            for pipeline, answer in zip(page, answers, strict=True):
                if found := _standing(pipeline, answer):
                    yield found

    def pipelines(self, limit: int | None = None) -> list[str]:
        """Ids of the pipelines that the broker still knows, the newest first, at most so many."""
        known, looked_at = dict[str, None](), 0
        with broker_errors():
            self._redis.zremrangebyscore(self._names.pipelines, "-inf", time.time() - 10 * self._history_seconds)
            ids = self._page(0)
            while ids and (limit is None or len(known) < limit):
                # What is submitted meanwhile moves some to the next page.
                known |= dict.fromkeys(self._known(self._with_ids(ids)))
                looked_at += len(ids)
                ids = self._page(looked_at) if len(ids) == PAGE_PIPELINES else []
        return list(known)[:limit]

    def _page(self, start: int) -> list[str]:
        """Ids of the pipelines from a place on, the newest first."""
        ids: list[str] = self._redis.zrevrange(self._names.pipelines, start, start + PAGE_PIPELINES - 1)
        return ids

    def _known(self, ids: list[str]) -> list[str]:
        """Those of some pipelines whose state has not expired."""
        with self._redis.pipeline(transaction=False) as pipe:
            for pipeline in ids:
                pipe.hexists(self._names.pipeline(pipeline), "plan")
            answers = pipe.execute(raise_on_error=False)
            # A key of another type is known, too: it is listed as not readable.
            return [pipeline for pipeline, known in zip(ids, answers, strict=True) if known]

    def _with_ids(self, pipelines: list[str]) -> list[str]:
        """The ids that can be names of files, as all ids that clients give."""
        for pipeline in pipelines:
            if not is_pipeline_id(pipeline):
                self._skipped.note(pipeline, f"{quoted(pipeline)} at the broker is no pipeline's id")
        return [pipeline for pipeline in pipelines if is_pipeline_id(pipeline)]

    def _set_states(self, pipeline: str, keys: Iterable[str], state: StageState) -> None:
        text = _as_text(state)
        with self._writing(pipeline) as pipe:
            pipe.hset(self._names.pipeline(pipeline), mapping={f"state:{key}": text for key in keys})

    @contextmanager
    def _writing(self, pipeline: str) -> Iterator[Any]:
        """A transaction that also puts off the pipeline's expiry."""
        with broker_errors(), self._redis.pipeline() as pipe:
            yield pipe
            self._put_off(pipe, pipeline)
            self._execute(pipe, pipeline)

    def _execute(self, pipe: Any, pipeline: str) -> list[Any]:
        """Execute commands for a pipeline; of keys of another type, its own is an error, and others are skipped."""
        answers: list[Any] = pipe.execute(raise_on_error=False)
        own = quoted(self._names.pipeline(pipeline))
        for answer in answers:
            if isinstance(answer, UnreadableRecord) and str(answer).startswith(own):
                raise answer
        return list(self._skipped.among(answers))

    def _put_off(self, pipe: Any, pipeline: str) -> None:
        """Put off the expiry of a pipeline, as there is news of it."""
        pipe.expire(self._names.pipeline(pipeline), self._history_seconds)
        pipe.expire(self._names.log(pipeline), self._history_seconds)
        pipe.zadd(self._names.unfinished, {pipeline: time.time()}, xx=True)


def _standing(pipeline: str, answer: Any) -> PipelineStatus | UnreadablePipeline | None:
    """Where a pipeline stands, from the broker's answer about its key."""
    if isinstance(answer, UnreadableRecord):
        return UnreadablePipeline(pipeline, str(answer))
    if isinstance(answer, Exception):
        raise answer
    return standing(pipeline, answer)


def _as_text(state: StageState) -> str:
    return state.model_dump_json(exclude_defaults=True)
