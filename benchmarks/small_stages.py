"""How many small stages one worker does in a second: `python -m benchmarks.small_stages`.

Pipelines of tiny models (digits, one epoch, MLP 16 to MLP 8) of new seeds, nine stages each, by one worker of one core:
new ones, and the same ones again, which are found in the store. Beside them, in the same rounds and on the same server,
Celery alone: the same canvas of nine tasks that train the same models, label and evaluate in plain torch, and keep no
promise: their files are not brought to the disk and not hashed, and nobody is told of anything.

With `--profile` a second table follows: where the time of a new stage goes, by the clock of the process that does it.
The tables are of Markdown, as they stand in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path
from statistics import median
from typing import Any

from celery import Celery, chain, chord, group, signals
from celery.canvas import Signature

from benchmarks.queue_server import finish, print_table, queue_server, worker_arguments
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child, celery_command
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

ROUNDS, PIPELINES, STAGES = 3, 20, 9
TEACHER, STUDENT, EPOCHS = 16, 8, 1
LOOK_SECONDS = 0.02
#: Tells the worker where to write its clock's readings.
READINGS = "DISTILL_BENCHMARK_READINGS"

#: What is timed in a worker's process, by what it is in words.
TIMED: dict[str, tuple[str, ...]] = {
    "training steps": ("distill_queue.worker.stages.train.fit",),
    "a few samples through each new model, in both precisions": ("distill_queue.worker.training.probe.examine",),
    "timing forward passes of evaluations": (
        "distill_queue.worker.evaluation.cost.latency_ms",
        "distill_queue.worker.evaluation.cost.throughput",
    ),
    "the rest of evaluations": ("distill_queue.worker.stages.evaluate.run",),
    "soft labels": ("distill_queue.worker.stages.soft_labels.run",),
    "building models": (
        "distill_queue.worker.models.build",
        "distill_queue.worker.models.load",
        "distill_queue.worker.models.save",
    ),
    "reading and packing data": (
        "distill_queue.worker.data.split.Split.open",
        "distill_queue.worker.data.load.load",
        "distill_queue.worker.data.arrays.Arrays.save",
    ),
    "`fsync`": ("os.fsync",),
    "finding and verifying artifacts": ("distill_queue.shared.store.folder_store.FolderStore.open",),
    "the rest of commits": (
        "distill_queue.shared.store.folder_store.FolderStore.commit",
        "distill_queue.shared.store.folder_store.FolderStore.draft",
    ),
    "round trips to the broker": ("redis.Redis.execute_command", "redis.client.Pipeline.execute"),
    "events for Flower": ("celery.app.task.Task.send_event",),
    "beginning and ending the log": (
        "distill_queue.worker.telemetry.log_capture.LogCapture.__enter__",
        "distill_queue.worker.telemetry.log_capture.LogCapture.__exit__",
    ),
    "the page of the report": ("distill_queue.worker.task.report_pages.ReportPages._write",),
    "the rest of stages": ("distill_queue.worker.task.tasks.run_stages",),
}
BETWEEN = "Celery, between two stages"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pipelines", type=int, default=PIPELINES, help="how many at once, of nine stages each")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--profile", action="store_true", help="and say where the time of a stage goes")
    parser.add_argument("--start", choices=["raw", "clocked"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.start == "raw":
        raw_app(Settings.load()).worker_main(worker_arguments("cpu"))
    elif options.start == "clocked":
        _clocked_worker()
    else:
        machine = f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
        print(f"{time.strftime('%Y-%m-%d')}, {machine}")
        compare(options.pipelines, options.rounds)
        if options.profile:
            profile(options.pipelines)


@dataclass(slots=True)
class Rounds:
    """What was measured of one way to do stages."""

    #: Stages a second, and milliseconds of processor that a stage took in all processes of its worker.
    rates: list[float] = field(default_factory=list)
    processor_ms: list[float] = field(default_factory=list)
    #: Seconds until the last page of a round was there, from its last stage on.
    pages: list[float] = field(default_factory=list)


def compare(pipelines: int, rounds: int) -> None:
    """New stages, found ones, and Celery alone, in turn."""
    new, found, raw = Rounds(), Rounds(), Rounds()
    with queue_server() as (settings, server, folder):
        ours = Child("worker", [*celery_command(), *worker_arguments("any")], settings.environment, folder / "ours.log")
        command = [sys.executable, "-m", "benchmarks.small_stages", "--start", "raw"]
        theirs = Child("raw", command, settings.environment, folder / "raw.log")
        ours.start()
        theirs.start()
        client, app = PipelineClient(settings), raw_app(settings, keeps_results=False)
        _await_pages(folder, _through_us(client, server, [0, 1]))  # They load their libraries.
        _through_celery(app, server, [0, 1], folder)
        for number in range(1, rounds + 1):
            seeds = range(1_000 * number, 1_000 * number + pipelines)
            _measure(raw, theirs, pipelines, partial(_through_celery, app, server, seeds, folder))
            ids = _measure(new, ours, pipelines, partial(_through_us, client, server, seeds))
            started = time.monotonic()
            _await_pages(folder, ids)
            new.pages.append(time.monotonic() - started)
            _measure(found, ours, pipelines, partial(_through_us, client, server, seeds))
        for worker in (ours, theirs):
            worker.ask_to_end()
            worker.end(time.monotonic() + 30)
    rows = [
        (name, f"{median(side.rates):.1f}", f"{1e3 / median(side.rates):.1f}", f"{median(side.processor_ms):.1f}")
        for name, side in (("Celery, the same trainings", raw), ("distill, new", new), ("distill, found", found))
    ]
    columns = ("", "stages a second", "ms a stage", "ms of processor a stage")
    print_table(f"Small stages, {pipelines} pipelines of {STAGES} at once, one worker of one core", columns, rows)
    print(f"The pages of {pipelines} pipelines were there {median(new.pages):.1f} s after their last stage.")


def profile(pipelines: int) -> None:
    """Where the time of a new stage goes."""
    with queue_server() as (settings, server, folder):
        readings = folder / "readings.json"
        command = [sys.executable, "-P", "-c", "import benchmarks.small_stages as it; it.main()", "--start", "clocked"]
        path = {"PYTHONPATH": str(Path(__file__).parent.parent), READINGS: str(readings), "PYTHONHASHSEED": "0"}
        worker = Child("worker", command, settings.environment | path, folder / "ours.log")
        worker.start()
        client = PipelineClient(settings)
        _await_pages(folder, _through_us(client, server, [0, 1]))
        before = json.loads(readings.read_text())
        started = time.monotonic()
        _through_us(client, server, range(1_000, 1_000 + pipelines))
        seconds = time.monotonic() - started
        after = json.loads(readings.read_text())
        worker.ask_to_end()
        worker.end(time.monotonic() + 30)
    stages, nothing = STAGES * pipelines, (0.0, 0.0, 0)
    of_each = {name: [after.get(name, nothing)[i] - before.get(name, nothing)[i] for i in range(3)] for name in TIMED}
    of_each[BETWEEN] = [seconds - sum(spent for spent, *_ in of_each.values()), 0.0, stages]
    rows = [
        (
            name,
            f"{calls / stages:.1f}",
            f"{1e3 * spent / stages:.2f}",
            f"{1e3 * busy / stages:.2f}" if name != BETWEEN else "",
            f"{spent / seconds:.0%}",
        )
        for name, (spent, busy, calls) in sorted(of_each.items(), key=lambda item: -item[1][0])
    ]
    rows.append(("all", "", f"{1e3 * seconds / stages:.2f}", "", ""))
    columns = ("", "calls a stage", "ms a stage", "of them processor", "share")
    print_table("Where the time of a new stage goes", columns, rows)


def raw_app(settings: Settings, *, keeps_results: bool = True) -> Celery:
    """Celery alone: the same settings of delivery, and tasks that do what the stages do, in plain torch."""
    app = create_app(settings, keeps_results=keeps_results)

    def do(kind: str, seed: int, folder: str) -> str:
        from benchmarks import small_stages_raw

        return small_stages_raw.do(kind, seed, Path(folder))

    app.task(do, name="raw.do", shared=False)
    return app


def raw_canvas(app: Celery, seed: int, folder: Path) -> Signature:
    """The canvas of a pipeline's nine stages."""

    def task(kind: str) -> Signature:
        kwargs = {"kind": kind, "seed": seed, "folder": str(folder)}
        return app.signature("raw.do", kwargs=kwargs, immutable=True, options={"queue": "cpu"})

    branches = group(
        [
            task("evaluate_teacher"),
            chain(task("labels"), task("student"), task("evaluate_student"), app=app),
            chain(task("control"), task("evaluate_control"), app=app),
        ],
        app=app,
    )
    return chain(task("data"), task("teacher"), chord(branches, task("report"), app=app), app=app)


def _spec(seed: int) -> PipelineSpec:
    training = {"epochs": EPOCHS, "seed": seed}
    return PipelineSpec.model_validate(
        {
            "name": "tiny",
            "dataset": {"name": "digits"},
            "teacher": {"model": {"name": "mlp", "hidden": [TEACHER]}, "training": training},
            "students": [{"name": "s", "model": {"name": "mlp", "hidden": [STUDENT]}, "training": training}],
        }
    )


def _through_us(client: PipelineClient, server: Any, seeds: Sequence[int]) -> list[str]:
    """Have pipelines done; return their ids."""
    specs = [_spec(seed) for seed in seeds]
    ids = [client.submit(spec).id for spec in specs]
    reports = [f"record:{Plan.of(spec).report.key}" for spec in specs]
    finish([partial(_has, server, *place) for place in zip(ids, reports, strict=True)], LOOK_SECONDS)
    return ids


def _await_pages(folder: Path, pipelines: Sequence[str]) -> None:
    """Wait for the reports of pipelines: their worker draws them when it has nothing else to do."""
    finish([(folder / "reports" / f"{each}.html").is_file for each in pipelines], LOOK_SECONDS)


def _has(server: Any, pipeline: str, record: str) -> bool:
    return bool(server.hexists(f"distill:pipeline:{pipeline}", record))


def _through_celery(app: Celery, server: Any, seeds: Sequence[int], folder: Path) -> list[str]:
    ids = [raw_canvas(app, seed, folder / f"raw-{seed}").apply_async().id for seed in seeds]
    finish([partial(server.exists, f"celery-task-meta-{each}") for each in ids], LOOK_SECONDS)
    return []


def _measure(rounds: Rounds, worker: Child, pipelines: int, work: Callable[[], list[str]]) -> list[str]:
    busy, started = _processor_seconds(worker), time.monotonic()
    ids = work()
    stages = STAGES * pipelines
    rounds.rates.append(stages / (time.monotonic() - started))
    rounds.processor_ms.append(1e3 * (_processor_seconds(worker) - busy) / stages)
    return ids


def _processor_seconds(worker: Child) -> float:
    """What a worker's processes have taken so far."""
    main = worker.pid
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in (main, *children)]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


class Clock:
    """Seconds, those of the processor and calls of what is timed, in one thread; nothing is counted twice."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
        self._running: list[str] = []
        self._since = self._busy = 0.0
        self._thread = threading.get_ident()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        @wraps(function)
        def wrapper(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*arguments, **options)
            self._turn()
            self._running.append(name)
            self.spent[name][2] += 1
            try:
                return function(*arguments, **options)
            finally:
                self._turn()
                self._running.pop()
                if not self._running:
                    Path(os.environ[READINGS]).write_text(json.dumps(self.spent))

        return wrapper

    def _turn(self) -> None:
        now, busy = time.perf_counter(), time.thread_time()
        if self._running:
            spent = self.spent[self._running[-1]]
            spent[0] += now - self._since
            spent[1] += busy - self._busy
        self._since, self._busy = now, busy


def _clocked_worker() -> None:
    """A worker whose child's time is taken."""
    from celery.bin.celery import celery

    from distill_queue.worker.machine import libraries

    libraries.set_up()
    from distill_queue.worker.app import app

    signals.worker_process_init.connect(lambda **_: _time_all(), weak=False)
    celery.params[0].default = app
    celery.main(worker_arguments("any"), prog_name="worker")


def _time_all() -> None:
    """Put a clock before all that is timed, where it is defined and where it is used."""
    import distill_queue.worker.stages.runner  # noqa: F401 (all modules are there from now on)

    clock = Clock()
    for name, places in TIMED.items():
        for place in places:
            parts = place.split(".")
            split = max(end for end in range(1, len(parts)) if ".".join(parts[:end]) in sys.modules)
            owner: Any = sys.modules[".".join(parts[:split])]
            for part in parts[split:-1]:
                owner = getattr(owner, part)
            plain = owner.__dict__[parts[-1]]
            is_class_method = isinstance(plain, classmethod)
            timed = clock.timed(name, plain.__func__ if is_class_method else plain)
            setattr(owner, parts[-1], classmethod(timed) if is_class_method else timed)


if __name__ == "__main__":
    main()
