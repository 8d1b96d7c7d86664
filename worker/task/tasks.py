"""The Celery tasks: thin skins that parse a message, find or compute its stages, and enter their records."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Self

from celery import Celery, Task
from celery.exceptions import Reject, TaskPredicate
from celery.utils.log import get_task_logger
from pydantic import ValidationError

from distill_queue.shared.catalog import STAGE_KINDS
from distill_queue.shared.errors import DistillError, InvalidInput, StageFailed, StoreUnavailable
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.stage import HARD_LIMIT_SECONDS, STAGE_FORMAT, Bundle, Stage
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker.coordination.connections import Connections
from distill_queue.worker.coordination.gpu_preference import GpuPreference
from distill_queue.worker.coordination.instance import Instance
from distill_queue.worker.coordination.leases import Lease
from distill_queue.worker.task import data_demands, found_data
from distill_queue.worker.task.attempt import StageAttempts
from distill_queue.worker.task.endings import BROKER_ERRORS, STAGE_ENDINGS, TASK_ENDINGS, Endings, left_for_later
from distill_queue.worker.task.finished import FinishedStages, Origin
from distill_queue.worker.task.label_crew import HELP_LABEL, HelpersProgress, SharedCrew, help_label
from distill_queue.worker.task.progress import Progress
from distill_queue.worker.task.received import ReceivedTask
from distill_queue.worker.task.report_pages import ReportPages
from distill_queue.worker.task.run import TaskRun
from distill_queue.worker.task.runners import MakeRunners, Runners
from distill_queue.worker.task.time_limit import wait_for_imports
from distill_queue.worker.telemetry.log_capture import LogCapture

logger = get_task_logger(__name__)


@dataclass(frozen=True, slots=True)
class TaskProcess:
    """What a worker's process has to do tasks; each part of a task is given what it needs of it."""

    settings: Settings
    instance: Instance
    connections: Connections
    runners: Runners

    @classmethod
    def start(cls, app: Celery, settings: Settings, instance: Instance, make_runners: MakeRunners) -> Self:
        """Connect this process.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        wait_for_imports()
        connections = Connections.connect(app, settings, instance, patient=True)
        return cls(settings, instance, connections, make_runners(settings, connections.store, instance.pulse))

    def endings(self, received: ReceivedTask, trouble_since: float) -> Endings:
        """How a task can end."""
        connections, metrics = self.connections, self.instance.metrics
        ledger, logs = connections.ledger, connections.logs
        return Endings(received, self.settings, ledger, logs, metrics, connections.close, trouble_since)

    def finished_stages(self, received: ReceivedTask, capture: LogCapture) -> FinishedStages:
        """Where a task's stages are entered; none is finished yet."""
        ledger, logs, metrics = self.connections.ledger, self.connections.logs, self.instance.metrics
        return FinishedStages(received.pipeline, received.worker, ledger, logs, metrics, capture)

    def task_run(self, received: ReceivedTask, capture: LogCapture) -> TaskRun:
        """What finds or computes a task's stages."""
        store, ledger = self.connections.store, self.connections.ledger

        def progress_of(leases: list[Lease], bundle: Bundle) -> Progress:
            metrics, stop = self.instance.metrics, self.instance.stop
            return Progress(received, leases, bundle, store, self.connections.notes, metrics, stop)

        def refuse(stage: Stage, artifact: Artifact, origin: Origin) -> DistillError | None:
            if origin == "found":
                comparison = found_data.Comparison(received, stage, ledger, self.instance.stop)
                if changed := found_data.failure_of(stage, artifact, self.settings, comparison):
                    return changed
            keyring = self.connections.kept_messages.keyring
            return data_demands.failure_of(stage, artifact, partial(ledger.plan, received.pipeline, keyring))

        crew_of = partial(self.crew, received)
        attempts = StageAttempts(
            received,
            store,
            ledger,
            self.connections.attempts,
            self.instance.metrics,
            self.runners,
            progress_of,
            crew_of,
        )
        return TaskRun(
            received,
            capture,
            store,
            ledger,
            self.connections.leases,
            self.connections.kept_messages,
            attempts,
            refuse,
        )

    def crew(self, received: ReceivedTask, stage: Stage, *, shared: bool = False) -> SharedCrew:
        """The workers that label a stage together."""
        registry, counters = self.connections.registry, self.connections.counters
        return SharedCrew(received, stage, registry, counters, self.settings.history_seconds, shared)

    def is_needed(self, received: ReceivedTask) -> bool:
        """Whether there is something more urgent than a page of a report."""
        return self.instance.stop.asked or self.connections.queues.any_waits(received.serves)


def register(app: Celery, settings: Settings, instance: Instance, make_runners: MakeRunners) -> None:
    """Give the application one task a kind of stage, named `distill.<kind>`, and one that helps to label."""

    @cache
    def process() -> TaskProcess:  # Not before the first task: pool processes are forked.
        return TaskProcess.start(app, settings, instance, make_runners)

    def run(
        task: Task, *, pipeline: str, stages: list[dict[str, Any]], trouble_since: float = 0.0, **_others: Any
    ) -> str:
        if not (stages and all(isinstance(stage, dict) for stage in stages)):
            raise InvalidInput(f"{pipeline}: a message without stages")
        received = ReceivedTask(task, pipeline, stages)
        try:
            with received.capture(process().connections.logs) as capture:
                return run_stages(process(), received, process().endings(received, trouble_since), capture)
        except BROKER_ERRORS as error:
            raise left_for_later(received, error) from None
        except tuple(TASK_ENDINGS) as error:
            raise process().endings(received, trouble_since).of_task(error) from None
        except (TaskPredicate, DistillError):
            raise
        except Exception as error:
            raise process().endings(received, trouble_since).bug(error) from error

    def help_out(task: Task, *, pipeline: str, stages: list[dict[str, Any]], **_newer: Any) -> str:
        received, here = ReceivedTask(task, pipeline, stages), process()
        with received.capture(here.connections.logs) as capture:
            stage = Stage.model_validate(stages[0])
            leases, metrics, stop = here.connections.leases, instance.metrics, instance.stop
            progress = HelpersProgress(received, stage, leases, metrics, stop)
            return help_label(here.crew(received, stage, shared=True), progress, here.runners, capture)

    # Not delivered again when it kills its worker: the stage's own worker does what is left.
    app.task(help_out, name=HELP_LABEL, shared=False, bind=True, reject_on_worker_lost=False)
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


def run_stages(process: TaskProcess, received: ReceivedTask, endings: Endings, capture: LogCapture) -> str:
    """Find the results of stages or compute them, and enter their records into the pipeline's ledger.

    Returns:
        What Flower shows as the task's result.

    Raises:
        InvalidInput: a stage cannot be done as it is written.
        StageFailed: one has no result after all attempts, or never can have one.
        TaskPredicate: what Celery is to do with the task in place of a result.

    """
    bundle = _bundle(process.connections.gpu_preference, process.connections.ledger, received, endings)
    finished = process.finished_stages(received, capture)
    try:
        failures = process.task_run(received, capture).find_or_compute(bundle, finished.enter)
    except tuple(STAGE_ENDINGS) as error:
        raise endings.of_stages(error, finished.unfinished(bundle)) from error
    if failures:
        raise endings.failed(failures)
    if bundle[0].kind == "report":
        record = finished.records[bundle[0].key]
        has_page = isinstance(record.record, ReportRecord) and bool(record.record.students)
        _close(process, received, owes_page=has_page and record.outcome == "computed")
    return finished.summary(bundle)


def _bundle(gpu_preference: GpuPreference, ledger: Ledger, received: ReceivedTask, endings: Endings) -> Bundle:
    """The stages of a task, if this worker is to do them."""
    if gpu_preference.should_leave(received.id, received.queue, received.worker, received.serves):
        raise Reject("left to a worker with a GPU", requeue=True)
    if (newest := max(stage.get("format", 0) for stage in received.stages)) > STAGE_FORMAT:
        raise endings.too_new(newest)
    if ledger.is_cancelled(received.pipeline):
        raise endings.revoked()
    try:
        bundle = tuple(map(Stage.model_validate, received.stages))
    except ValidationError as error:
        # It would cross Redis empty: pydantic's errors do not survive pickling by message.
        raise endings.failed(InvalidInput(f"not a stage: {error}")) from None
    if not all(stage.of_this_version for stage in bundle):
        raise endings.failed(InvalidInput("planned by another version of distill-queue: submit the pipeline again"))
    return bundle


def _close(process: TaskProcess, received: ReceivedTask, *, owes_page: bool) -> None:
    """End a pipeline whose last stage is finished.

    The page of one that was only found 'distill report' writes; trainings of 'distill tune' have none.
    """
    try:
        process.connections.close(received.pipeline)
    except StoreUnavailable as error:  # What stays of a finished pipeline is removed by the rescue.
        logger.warning("%s: its submission cannot be removed: %s", received.pipeline, error)
    pages = ReportPages(process.connections.pages, process.connections.ledger, process.connections.store)
    pages.write(received.pipeline if owes_page else None, partial(process.is_needed, received))
