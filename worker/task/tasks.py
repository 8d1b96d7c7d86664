"""The Celery tasks: thin skins that parse a stage, find or compute its result, and enter its record."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from functools import cache, partial
from typing import Any, NoReturn

import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from celery.exceptions import Ignore, Reject, TaskPredicate
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError
from pydantic import ValidationError

from distill_queue.shared.catalog import STAGE_KINDS
from distill_queue.shared.errors import (
    Cancelled,
    DistillError,
    HandedBack,
    InvalidInput,
    LeaseLost,
    StageFailed,
    StoreUnavailable,
    Unavailable,
    UnknownPipeline,
    UnreadableRecord,
)
from distill_queue.shared.plan.stage import HARD_LIMIT_SECONDS, STAGE_FORMAT, Bundle, Stage
from distill_queue.shared.results.stage_record import Record, StageRecord, warnings_of
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker.coordination.connections import Connections
from distill_queue.worker.coordination.pulse import Pulse
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.task.label_crew import TASK, help_label
from distill_queue.worker.task.run import Enter, Outcome, Parked, Stumbled, TaskRun, error_in_words, out_of_time
from distill_queue.worker.task.time_limit import wait_for_imports
from distill_queue.worker.telemetry.log_capture import LogCapture
from distill_queue.worker.telemetry.metrics import Metrics, kind_of

#: Seconds after which a stage that only a newer worker can do is offered again, and the longest wait of a retry.
NEWER_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0

logger = get_task_logger(__name__)


def register(app: Celery, settings: Settings, stop: Stop, pulse: Pulse, metrics: Metrics) -> None:
    """Give the application one task a kind of stage, named `distill.<kind>`."""

    @cache
    def connections() -> Connections:  # Not before the first task: pool processes are forked.
        wait_for_imports()
        return Connections.connect(app, settings, stop, pulse, metrics, patient=True)

    def run(
        task: Task, *, pipeline: str, stages: list[dict[str, Any]], trouble_since: float = 0.0, **_others: Any
    ) -> str:
        if not (stages and all(isinstance(stage, dict) for stage in stages)):
            raise InvalidInput(f"{pipeline}: a message without stages")
        try:
            with _scribe(task, connections(), pipeline, stages) as capture:
                return run_stages(task, connections(), pipeline, stages, trouble_since, capture)
        except (redis.RedisError, Unavailable, OperationalError) as error:
            # The broker refuses what a stage needs of it, or is away for very long: another time, perhaps elsewhere.
            logger.error("%s: %s: left for later: %s", pipeline, task.name, error)
            time.sleep(_jittered(NEWER_SECONDS))
            raise Reject(str(error), requeue=True) from None
        except UnreadableRecord as error:
            raise _ended(connections(), pipeline, stages, task.request.hostname, str(error)) from None
        except SoftTimeLimitExceeded:
            with _scribe(task, connections(), pipeline, stages):
                raise _failed(connections(), pipeline, stages, task.request.hostname, out_of_time(task)) from None
        except (TaskPredicate, DistillError):
            raise
        except Exception as error:  # Outside of an attempt: without a word of it, the pipeline would wait for ever.
            logger.exception("%s: %s: a bug", pipeline, task.name)
            reason = error_in_words(error)
            if task.request.retries + 1 < settings.max_attempts:  # What it lacked, as memory, may be there by then.
                keys = [str(stage.get("key", "")) for stage in stages]
                _try_again(task, connections(), pipeline, keys, Stumbled(reason), trouble_since)
            raise _ended(connections(), pipeline, stages, task.request.hostname, reason) from error

    def help_out(task: Task, *, pipeline: str, stages: list[dict[str, Any]], **_newer: Any) -> str:
        with _scribe(task, connections(), pipeline, stages) as capture:
            return help_label(task, connections(), pipeline, stages, capture)

    # Not delivered again when it kills its worker: the stage's own worker does what is left.
    app.task(help_out, name=TASK, shared=False, bind=True, reject_on_worker_lost=False)
    for kind in STAGE_KINDS:
        limit = settings.time_limits.get(kind)
        app.task(
            run,
            name=f"distill.{kind}",
            shared=False,
            bind=True,
            max_retries=None,
            ignore_result=True,  # The ledger has the records; a chord's members hand theirs on all the same.
            soft_time_limit=limit,
            time_limit=limit and limit + HARD_LIMIT_SECONDS,
            Request="distill_queue.worker.process.supervision:StageRequest",
            throws=(InvalidInput, StageFailed),
        )


def run_stages(
    task: Task,
    connections: Connections,
    pipeline: str,
    messages: list[dict[str, Any]],
    trouble_since: float,
    capture: LogCapture,
) -> str:
    """Find the results of stages or compute them, and enter their records into the pipeline's ledger.

    Args:
        task: the bound task.
        connections: the process's.
        pipeline: its id.
        messages: the stages, as JSON.
        trouble_since: when, in seconds since the epoch, the store or a download first failed; 0 where none did.
        capture: what takes down what is said of them.

    Raises:
        InvalidInput: a stage cannot be done as it is written.
        StageFailed: one has no result after all attempts, or never can have one.

    """
    started, worker = time.time(), task.request.hostname
    queue, serves = task.request.delivery_info["routing_key"], task.app.amqp.queues.consume_from
    if connections.gpu_preference.should_leave(task.request.id, queue, worker, serves):
        raise Reject("left to a worker with a GPU", requeue=True)
    if (newest := max(message.get("format", 0) for message in messages)) > STAGE_FORMAT:
        _leave_to_newer_workers(task, connections, pipeline, messages, newest)
    if connections.ledger.is_cancelled(pipeline):
        raise _left(task, "task-revoked", terminated=False)
    try:
        bundle = tuple(map(Stage.model_validate, messages))
    except ValidationError as error:
        # It would cross Redis empty: pydantic's errors do not survive pickling by message.
        raise _failed(connections, pipeline, messages, worker, InvalidInput(f"not a stage: {error}")) from None
    if not all(stage.of_this_version for stage in bundle):
        older = InvalidInput("planned by another version of distill-queue: submit the pipeline again")
        raise _failed(connections, pipeline, messages, worker, older)
    records: dict[str, StageRecord] = {}
    devices: list[str] = []
    enter = _enter(connections, pipeline, worker, records, devices, capture)
    work = TaskRun(task, connections, pipeline, worker, capture)
    try:
        failures = work.find_or_compute(bundle, enter)
    except Parked as waits:
        raise _left(task, "task-retried", exception=str(waits)) from None
    except Cancelled:
        _count_unfinished(connections, bundle, records, "cancelled")
        raise _left(task, "task-revoked", terminated=False) from None
    except LeaseLost as error:
        # Not acknowledged: its delivery tag is also that of the delivery which took over.
        raise Reject(str(error), requeue=True) from None
    except HandedBack:
        work.message().apply_async()
        _count_unfinished(connections, bundle, records, "handed_back")
        handed_back = f"handed back by {worker}"
        connections.ledger.wait(pipeline, _unfinished(bundle, records), handed_back)
        raise _left(task, "task-retried", exception=handed_back) from None
    except Unavailable as error:
        # Trouble that comes after a long time of work is new.
        since = (trouble_since if time.time() - started < LONGEST_WAIT_SECONDS else 0.0) or time.time()
        if time.time() - since < connections.settings.retry_seconds:
            _try_again(task, connections, pipeline, _unfinished(bundle, records), error, since)
        reason = f"{error} (tried again for {time.time() - since:,.0f} s)"
        failures = dict.fromkeys(_unfinished(bundle, records), StageFailed(reason))
    except Stumbled as error:
        _try_again(task, connections, pipeline, _unfinished(bundle, records), error, trouble_since)
    if failures:
        raise _failed(connections, pipeline, messages, worker, failures)
    if bundle[0].kind == "report":
        try:
            connections.close(pipeline)
        except StoreUnavailable as error:  # What stays of a finished pipeline is removed by the rescue.
            logger.warning("%s: its submission cannot be removed: %s", pipeline, error)
        # Of one that was found, 'distill report' writes it when somebody asks.
        _write_pages(connections, pipeline if records[bundle[0].key].outcome == "computed" else None, serves)
    return "; ".join([*(records[stage.key].summary for stage in bundle), *dict.fromkeys(devices)])


def _write_pages(connections: Connections, pipeline: str | None, serves: Collection[str]) -> None:
    """Write a finished pipeline's page and those that are still owed, unless a message waits for this worker.

    To draw a page takes as long as many small stages, and no stage needs it. The worker that ends the next pipeline
    writes the pages that are left. A page that is still missing, as after its worker died, 'distill report' and
    'distill run' write.
    """
    try:
        if pipeline:
            connections.pages.owe(pipeline)
        while (
            not connections.stop.asked
            and not connections.queues.any_waits(serves)
            and (owed := connections.pages.take())
        ):
            try:
                _write_page(connections, owed)
            except StoreUnavailable as error:
                logger.warning("%s: its report cannot be written for now: %s", owed, error)
                connections.pages.owe(owed)
                return
    except SoftTimeLimitExceeded:
        logger.warning("%s: pages of reports are left for later: the task has reached its time limit", pipeline)
    except (redis.RedisError, UnreadableRecord) as error:
        logger.warning("%s: pages of reports are left for later: %s", pipeline, error)


def _write_page(connections: Connections, pipeline: str) -> None:
    """Write a finished pipeline's page: a pipeline is done without it.

    Raises:
        StoreUnavailable: it cannot be written for now.

    """
    try:
        from distill_queue.shared.report.page import write_page  # Loads matplotlib, which no other task needs.

        write_page(connections.ledger.status(pipeline), connections.store, connections.store.report(pipeline))
        connections.store.share_report(pipeline)
    except (SoftTimeLimitExceeded, StoreUnavailable):
        raise
    except Exception:
        logger.warning("%s: its report cannot be written", pipeline, exc_info=True)


def _scribe(task: Task, connections: Connections, pipeline: str, messages: list[dict[str, Any]]) -> LogCapture:
    keys = (str(message.get("key", "")) for message in messages)
    return LogCapture(connections.logs, pipeline, task.request.hostname, keys)


def _enter(
    connections: Connections,
    pipeline: str,
    worker: str,
    records: dict[str, StageRecord],
    devices: list[str],
    capture: LogCapture,
) -> Enter:
    """Enter a stage's record into the ledger, with its share of the seconds since the last one, and note its device."""
    last = time.monotonic()

    def enter(stage: Stage, artifact: Artifact, outcome: Outcome, untold: int) -> None:
        nonlocal last
        now = time.monotonic()
        seconds = (now - last) / untold
        last += seconds
        record = StageRecord(
            key=stage.key,
            kind=stage.kind,
            title=stage.title,
            outcome=outcome,
            seconds=seconds,
            ended=time.time() - (now - last),
            worker=worker,
            record=artifact.record,
        )
        connections.metrics.note("stages", stage.kind, outcome)
        if outcome == "computed":
            connections.metrics.note("stage_seconds", stage.kind, value=artifact.manifest.seconds)
            devices.append(artifact.manifest.provenance.device)
        with capture.about((stage.key,)):
            if outcome == "found":
                found = partial(connections.logs.add, pipeline=pipeline, line=capture.line(record.summary))
                records[stage.key] = connections.ledger.finish(pipeline, record, found)
            else:  # After all that was said while it was computed.
                records[stage.key] = connections.ledger.finish(pipeline, record)
                capture.note(record.summary)
            _warn(connections, pipeline, stage, artifact.record)

    return enter


def _warn(connections: Connections, pipeline: str, stage: Stage, record: Record) -> None:
    """Log what a stage warns of, as far as its pipeline's spec does not accept it."""
    if warnings := warnings_of(record):
        accepted: tuple[str, ...] = ()
        with suppress(UnknownPipeline, UnreadableRecord):  # The broker has forgotten it, or another version wrote it.
            accepted = connections.ledger.status(pipeline).plan.accept
        for warning in warnings:
            if warning.kind not in accepted:
                logger.warning("%s: %s: %s (%s)", pipeline, stage.title, warning.text, warning.kind)


def _unfinished(bundle: Bundle, records: dict[str, StageRecord]) -> list[str]:
    return [stage.key for stage in bundle if stage.key not in records]


def _count_unfinished(connections: Connections, bundle: Bundle, records: dict[str, StageRecord], outcome: str) -> None:
    for stage in bundle:
        if stage.key not in records:
            connections.metrics.note("stages", stage.kind, outcome)


def _left(task: Task, event: str, **facts: object) -> Ignore:
    """Tell Flower how a task ends that has no result: Celery would say nothing, and there it would run for ever."""
    with suppress(OSError, *task.app.connection_for_write().connection_errors):
        task.send_event(event, retry=False, **facts)
    return Ignore()


def _leave_to_newer_workers(
    task: Task, connections: Connections, pipeline: str, messages: list[dict[str, Any]], newest: int
) -> NoReturn:
    reason = f"stage format {newest}: this worker knows {STAGE_FORMAT}: update it"
    logger.error("%s: left to newer workers", reason)
    connections.ledger.wait(pipeline, [message["key"] for message in messages], reason)
    task.send_event("task-progress", result=reason, retry=False)
    raise task.retry(countdown=_jittered(NEWER_SECONDS), kwargsrepr=task.request.kwargsrepr)


def _try_again(
    task: Task, connections: Connections, pipeline: str, keys: list[str], error: Exception, trouble_since: float
) -> NoReturn:
    """Put the task into its queue again, for a time that grows with each try."""
    countdown = _jittered(min(LONGEST_WAIT_SECONDS, 2.0 ** min(task.request.retries + 1, 10)))
    connections.ledger.wait(pipeline, keys, f"tries again in {countdown:.0f} s: {error}")
    logger.warning("%s: %s: tries again in %.0f s: %s", pipeline, task.name, countdown, error)
    kwargs = task.request.kwargs | {"trouble_since": trouble_since}
    raise task.retry(kwargs=kwargs, countdown=countdown, kwargsrepr=task.request.kwargsrepr) from error


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)


def _failed(
    connections: Connections,
    pipeline: str,
    messages: list[dict[str, Any]],
    worker: str,
    failures: Mapping[str, DistillError] | DistillError,
) -> DistillError:
    """Enter failures by key, or one of all stages, into the ledger; return the first, for Celery."""
    raised = []
    for message in messages:
        failure = failures if isinstance(failures, DistillError) else failures.get(message.get("key", ""))
        if failure is None:
            continue
        key, title, reason = str(message.get("key")), str(message.get("title")), str(failure)
        error = _titled(title, reason)
        connections.ledger.fail(pipeline, key, error, worker)
        connections.metrics.note("stages", kind_of(message), "failed")
        logger.error("%s: %s", pipeline, error)
        raised.append(type(failure)(error))
    # As where its warnings are looked for; what stays of it in a store that cannot be written is removed by the rescue.
    with suppress(UnknownPipeline, UnreadableRecord, StoreUnavailable):
        if connections.ledger.status(pipeline).finished:
            connections.close(pipeline)
    return raised[0]


def _ended(
    connections: Connections, pipeline: str, messages: list[dict[str, Any]], worker: str, reason: str
) -> DistillError:
    """Fail stages that another try would not help, though the pipeline itself may be what cannot be read."""
    failure = StageFailed(reason)
    try:
        return _failed(connections, pipeline, messages, worker, failure)
    except UnreadableRecord as error:
        logger.error("%s: its stages are left undone: %s", pipeline, error)
        return failure


def _titled(title: str, reason: str) -> str:
    """A reason behind its stage's title, with no name in it twice: a data set's own title ends with its name."""
    named, _, rest = reason.partition(": ")
    if reason.startswith(f"{title}: "):
        return reason
    return f"{title}: {rest}" if title.endswith(f" {named}") else f"{title}: {reason}"
