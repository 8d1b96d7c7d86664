"""The application that Celery and Flower start: `celery -A distill_queue.worker.app worker`."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from celery import Celery, signals
from celery.utils.log import get_logger

from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.errors import DistillError, InvalidSettings, Unavailable
from distill_queue.shared.exit_code import ExitCode
from distill_queue.shared.files import temporary
from distill_queue.shared.settings import Settings
from distill_queue.shared.starter import LOAD_AHEAD, READY, hang_up, tell
from distill_queue.shared.text import plain_line
from distill_queue.worker.coordination.instance import Instance
from distill_queue.worker.machine import libraries
from distill_queue.worker.process.delivery import renew_deliveries
from distill_queue.worker.process.fitness import require_fit_broker
from distill_queue.worker.process.main_process import MainProcess
from distill_queue.worker.process.shutdown import end_by_signal
from distill_queue.worker.process.supervision import watch_child
from distill_queue.worker.task.runners import MakeRunners, TorchRunners, load_ahead
from distill_queue.worker.task.tasks import register
from distill_queue.worker.telemetry.exporter import serve_metrics
from distill_queue.worker.telemetry.log_formatter import format_logs

#: Whether sets of texts have another order in each process: Python was started without a seed for hashes.
HASHES_ARE_RANDOM = os.environ.get("PYTHONHASHSEED", "random") == "random"
MAIN_PROCESS = os.getpid()

logger = get_logger(__name__)


def create(settings: Settings, make_runners: MakeRunners = TorchRunners) -> Celery:
    """The workers' application: tasks, renewed deliveries, metrics, and supervision of the child.

    Args:
        settings: of this process.
        make_runners: makes the runners that compute stages.

    """
    app = create_app(settings)
    instance = Instance.create(has_metrics=settings.metrics_port > 0)
    main_process = MainProcess.attach(app, settings, instance)
    app.conf.worker_consumer = "distill_queue.worker.process.admission:Admission"
    require_fit_broker(app, settings)
    register(app, settings, instance, make_runners)
    renew_deliveries(app, settings, main_process)
    serve_metrics(app, settings, instance.metrics)
    watch_child(app, main_process.watchdog)
    end_by_signal(app, instance.stop, main_process.watchdog)
    format_logs()
    signals.celeryd_init.connect(_require_plain_name, weak=False, dispatch_uid=id(app))
    signals.worker_init.connect(_require_locks, weak=False, dispatch_uid=id(app))
    signals.worker_ready.connect(_warn_of_random_hashes, weak=False, dispatch_uid=(id(app), "hashes"))
    if os.environ.pop(LOAD_AHEAD, None):
        signals.worker_process_init.connect(
            lambda **_: load_ahead(instance.pulse), weak=False, dispatch_uid=(id(app), "load")
        )
    signals.worker_process_init.connect(_hang_up, weak=False, dispatch_uid=(id(app), "starter"))
    signals.worker_ready.connect(_say_ready, weak=False, dispatch_uid=id(app))
    return app


def _create() -> Celery:
    libraries.set_up()
    try:
        temporary.provide_folder()
        return create(Settings.load())
    except (InvalidSettings, Unavailable) as error:
        _end(error)


def _end(error: DistillError) -> NoReturn:
    """End a process that cannot start, with the error's exit code."""
    print(f"error: {error}", file=sys.stderr)
    tell(str(error))
    sys.exit(ExitCode.of(error))


def _say_ready(**_: Any) -> None:
    tell(READY)
    hang_up()


def _hang_up(**_: Any) -> None:
    if os.getpid() != MAIN_PROCESS:  # A pool of one thread has no other process.
        hang_up()


def _require_plain_name(sender: str, **_: Any) -> None:
    """Require that the worker's name is printable: it is shown and stored with everything that the worker does."""
    if plain_line(sender) != sender:
        problem = "a character of it, or of this host's name, cannot be shown"
        _end(InvalidSettings(f"-n: no valid name of a worker: {sender!a}: {problem}: start it with -n NAME@HOST"))


def _require_locks(**_: Any) -> None:
    try:
        temporary.require_locks()
    except Unavailable as error:
        _end(error)


def _warn_of_random_hashes(**_: Any) -> None:
    if HASHES_ARE_RANDOM:
        logger.warning(
            "PYTHONHASHSEED is not set: own data that go through sets of texts may differ from another worker's: "
            "start it by 'python -P -m distill_queue.worker worker …' in place of "
            "'celery -A distill_queue.worker.app worker …', or set it to 0"
        )


app = _create()
