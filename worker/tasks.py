"""The Celery tasks: thin skins that parse a stage, find or compute its result, and enter its record."""

from __future__ import annotations

import random
import time
from functools import cache
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.utils.log import get_task_logger
from pydantic import ValidationError

from shared.catalog import KINDS
from shared.errors import Cancelled, HandedBack, InvalidInput, LeaseLost, StageFailed, Unavailable
from shared.plan import HARD_LIMIT_SECONDS, STAGE_FORMAT, Stage
from shared.records import StageRecord
from shared.settings import Settings
from worker.bench import Bench
from worker.stop import Stop
from worker.work import Parked, Stumbled, Work

#: Seconds after which a stage that only a newer worker can do is offered again, and the longest wait of a retry.
NEWER_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 60.0

logger = get_task_logger(__name__)


def register(app: Celery, settings: Settings, stop: Stop) -> None:
    """Give the application one task a kind of stage, named `distill.<kind>`."""
    # Not before the first task: pool processes are forked.
    bench = cache(lambda: Bench.connect(app, settings, stop, patient=True))

    def run(task: Task, *, pipeline: str, stage: dict[str, Any], trouble_since: float = 0.0) -> str:
        return run_stage(task, bench(), pipeline, stage, trouble_since)

    for kind in KINDS:
        limit = settings.time_limits.get(kind)
        app.task(
            run,
            name=f"distill.{kind}",
            shared=False,
            bind=True,
            max_retries=None,
            soft_time_limit=limit,
            time_limit=limit and limit + HARD_LIMIT_SECONDS,
            Request="worker.supervision:StageRequest",
            throws=(InvalidInput, StageFailed),
        )


def run_stage(task: Task, bench: Bench, pipeline: str, message: dict[str, Any], trouble_since: float) -> str:
    """Find a stage's result or compute it, and enter its record into the pipeline's ledger.

    Args:
        task: the bound task.
        bench: the process's connections.
        pipeline: its id.
        message: the stage, as JSON.
        trouble_since: when, in seconds since the epoch, the store or a download first failed; 0 where none did.

    Raises:
        InvalidInput: the stage cannot be done as it is written.
        StageFailed: it has no result after all attempts, or never can have one.

    """
    if message.get("format", 0) > STAGE_FORMAT:
        _leave_to_newer_workers(task, message)
    stage = _parse(message)
    if bench.ledger.is_cancelled(pipeline):
        raise Ignore
    started = time.monotonic()
    worker = task.request.hostname
    work = Work(task, bench, pipeline, worker)
    try:
        artifact, outcome = work.find_or_compute(stage)
    except (Parked, Cancelled):
        raise Ignore from None
    except LeaseLost as error:
        # Not acknowledged: its delivery tag is also that of the delivery which took over.
        raise Reject(str(error), requeue=True) from None
    except HandedBack:
        work.message().apply_async()
        bench.ledger.wait(pipeline, stage.key, f"handed back by {worker}")
        raise Ignore from None
    except Unavailable as error:
        since = trouble_since or time.time()
        if time.time() - since >= bench.settings.retry_seconds:
            reason = f"{error} (tried again for {time.time() - since:,.0f} s)"
            raise _failed(bench, pipeline, stage, worker, reason) from error
        _try_again(task, bench, pipeline, stage, error, since)
    except Stumbled as error:
        _try_again(task, bench, pipeline, stage, error, trouble_since)
    except (InvalidInput, StageFailed) as error:
        raise _failed(bench, pipeline, stage, worker, str(error), type(error)) from error
    record = StageRecord(
        key=stage.key,
        kind=stage.kind,
        title=stage.title,
        outcome=outcome,
        seconds=time.monotonic() - started,
        worker=worker,
        record=artifact.record,
    )
    entered = bench.ledger.finish(pipeline, record)
    if stage.kind == "report":
        bench.submissions.remove(pipeline)
    return entered.summary


def _parse(message: dict[str, Any]) -> Stage:
    try:
        return Stage.model_validate(message)
    except ValidationError as error:
        # It would cross Redis empty: pydantic's errors do not survive pickling by message.
        raise InvalidInput(f"not a stage: {error}") from None


def _leave_to_newer_workers(task: Task, message: dict[str, Any]) -> None:
    reason = f"stage format {message['format']}: this worker knows {STAGE_FORMAT}: update it"
    logger.error("%s: left to newer workers", reason)
    task.send_event("task-progress", result=reason, retry=False)
    raise task.retry(countdown=_jittered(NEWER_SECONDS), kwargsrepr=task.request.kwargsrepr)


def _try_again(task: Task, bench: Bench, pipeline: str, stage: Stage, error: Exception, trouble_since: float) -> None:
    """Put the task into its queue again, for a time that grows with each try."""
    countdown = _jittered(min(LONGEST_WAIT_SECONDS, 2.0 ** (task.request.retries + 1)))
    bench.ledger.wait(pipeline, stage.key, f"tries again in {countdown:.0f} s: {error}")
    logger.warning("%s: %s: tries again in %.0f s: %s", pipeline, stage.title, countdown, error)
    kwargs = task.request.kwargs | {"trouble_since": trouble_since}
    raise task.retry(kwargs=kwargs, countdown=countdown, kwargsrepr=task.request.kwargsrepr) from error


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, keeps no secret)


def _failed(
    bench: Bench, pipeline: str, stage: Stage, worker: str, reason: str, kind: type[Exception] = StageFailed
) -> Exception:
    message = reason if reason.startswith(f"{stage.title}: ") else f"{stage.title}: {reason}"
    bench.ledger.fail(pipeline, stage.key, message, worker)
    logger.error("%s: %s", pipeline, message)
    return kind(message)
