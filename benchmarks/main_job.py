"""The main job against the notebook it comes from and against torchdistill: same data, models and epochs, in turn."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.job_profile import Run, Seconds
from benchmarks.queue_server import print_table
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.scheduler.stack.side_by_side import workers_for
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.store import store_of

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "examples" / "fashion-mnist.yaml"
WARM_UP = ROOT / "examples" / "quickstart.yaml"
#: Of an environment with torchdistill, as `make bench` makes it.
TORCHDISTILL_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
ROUNDS = 3

#: The command, also where the package is not installed.
DISTILL = [sys.executable, "-c", "from distill_queue.scheduler.cli.main import main; main()"]

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: a spec with changes at its top level, after another one that warms a worker up."""

    spec: Path = SPEC
    warm_up: Path = WARM_UP
    changes: dict[str, Any] = field(default_factory=dict)
    #: A folder of downloaded data sets; None: they are downloaded if they are not on the machine.
    downloads: Path | None = None

    @contextmanager
    def prepared(self, seed: int) -> Iterator[tuple[Path, Path, Path]]:
        """An empty store, and the two specs; in the first, every model is trained from a seed."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            if self.downloads:
                (folder / "downloads").symlink_to(self.downloads.absolute())
            specs = (folder / "spec.json", folder / "warm_up.json")
            for path, given in zip(specs, (self.spec, self.warm_up), strict=True):
                data: dict[str, Any] = PipelineSpec.load(given).model_dump(mode="json", exclude_unset=True)
                data |= self.changes
                for model in (data["teacher"], *data["students"]) if path == specs[0] else ():
                    model["training"]["seed"] = seed
                path.write_text(json.dumps(data))
            yield folder, *specs


MAIN_JOB = Job()


def main() -> None:
    """Run all in turn, and print the medians and their ratios; or say where the time of ours goes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    parser.add_argument("--profile", action="store_true", help="run ours alone, and say where its time goes")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many seeds")
    options = parser.parse_args()
    if options.profile:
        profile(options.rounds)
    else:
        compare(options.rounds)


def profile(rounds: int) -> None:
    """Where the time of a whole job goes, warm and cold: medians over some seeds."""
    found: dict[str, list[Seconds]] = {"warm": [], "cold": []}
    for seed in range(rounds):
        found["warm"].append(warm_run(seed)[1])
        found["cold"].append(cold_run(seed)[1])
    kinds = ("warm", "cold")
    rows = [
        (row, *(f"{median(each[row] for each in found[kind]):.2f}" if row in found[kind][0] else "" for kind in kinds))
        for row in dict.fromkeys(row for kind in reversed(kinds) for row in found[kind][0])
    ]
    rows.append(("whole", *(f"{median(sum(each.values()) for each in found[kind]):.2f}" for kind in kinds)))
    machine = f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
    print(f"{time.strftime('%Y-%m-%d')}, {machine}")
    print_table("Seconds of a whole job", ("", "warm", "cold"), rows)


def compare(number: int) -> None:
    """Run all in turn, and print the medians and their ratios."""
    contenders: dict[str, Callable[[int], Figures]] = {
        "notebook": lambda seed: process(sys.executable, "benchmarks.notebook", seed),
        "distill, cold": cold,
        "distill, warm": warm,
    }
    if TORCHDISTILL_PYTHON.exists():
        job = "benchmarks.torchdistill_job"
        contenders["torchdistill"] = lambda seed: process(TORCHDISTILL_PYTHON, job, seed, "--uncached")
        contenders["with its cache"] = lambda seed: process(TORCHDISTILL_PYTHON, job, seed)
    rounds = [{name: run(seed) for name, run in contenders.items()} for seed in range(number)]
    table = Table(title=f"Fashion-MNIST, 5 + 5 epochs: medians of {number} seeds in turn, {os.cpu_count()} cores")
    for name in ("", *contenders):
        table.add_column(name, justify="left" if not name else "right")
    for row, key in (
        ("teacher, training s", "teacher_seconds"),
        ("student, training s", "student_seconds"),
        ("both, training s", "training_seconds"),
        ("whole, s", "whole_seconds"),
    ):
        ours = median(each["distill, warm"][key] for each in rounds)
        cells = []
        for name in contenders:
            seconds = median(each[name][key] for each in rounds)
            cells.append(f"{seconds:.2f} ({seconds / ours:.1f}x)")
        table.add_row(row, *cells)
    for row, key in (("teacher, test accuracy", "teacher_accuracy"), ("student, test accuracy", "student_accuracy")):
        table.add_row(row, *(f"{median(each[name][key] for each in rounds):.2%}" for name in contenders))
    table.caption = (
        "whole: from the start of a process to its end; warm: from submitting to the results, with a worker that has "
        "done another pipeline before; ours with a control, evaluations and a report · x: times distill, warm"
    )
    Console(width=110).print(table)


def process(python: str | Path, module: str, seed: int, *options: str) -> Figures:
    """Figures of a job that prints them, in a process of its own, with the seconds of the whole."""
    started = time.monotonic()
    command = [python, "-m", module, str(seed), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"error: {module}: {done.stderr}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return _with_totals(figures, time.monotonic() - started)


def cold(seed: int, job: Job = MAIN_JOB) -> Figures:
    """Figures of `distill run` with an empty store: server, worker, control, evaluations and report included."""
    return _figures(*cold_run(seed, job))


def warm(seed: int, job: Job = MAIN_JOB) -> Figures:
    """Figures of a pipeline that is submitted to a worker which has done another one, with an empty store else."""
    return _figures(*warm_run(seed, job))


def cold_run(seed: int, job: Job = MAIN_JOB) -> tuple[PipelineResults, Seconds]:
    """The results of `distill run` with an empty store, and its seconds by what they were spent on."""
    with job.prepared(seed) as (folder, spec, _):
        started = time.time()
        environment = os.environ | {"DISTILL_STORE": str(folder)}
        subprocess.run([*DISTILL, "run", spec], env=environment, stdout=subprocess.DEVNULL, check=True)
        ended = time.time()
        (path,) = (folder / "reports").glob("*.json")
        results = PipelineResults.model_validate_json(path.read_text())
        plan, store = Plan.of(PipelineSpec.load(spec)), store_of(Settings(store=str(folder)))
        page = path.with_suffix(".html").stat().st_mtime
        return results, Run(plan, results.stages, store, started, ended, page).seconds()


def warm_run(seed: int, job: Job = MAIN_JOB) -> tuple[PipelineResults, Seconds]:
    """The same of a pipeline that is submitted to the workers that `distill run` would start, after another one."""
    with job.prepared(seed) as (folder, spec, warm_up):
        given, settings = PipelineSpec.load(spec), Settings(store=str(folder))
        return _warm_run(LocalStack(settings, workers_for(Plan.of(given), settings)), given, PipelineSpec.load(warm_up))


def _warm_run(started_by: LocalStack, given: PipelineSpec, warm_up: PipelineSpec) -> tuple[PipelineResults, Seconds]:
    with started_by as stack:
        client = PipelineClient(stack.settings)
        _done(client, client.submit(warm_up).id)
        started = time.time()
        results = _done(client, client.submit(given).id)
        ended = time.time()
        return results, Run(Plan.of(given), results.stages, store_of(stack.settings), started, ended).seconds()


def _done(client: PipelineClient, pipeline: str) -> PipelineResults:
    for _ in client.watch(pipeline):
        pass
    return client.results(pipeline)


def _figures(results: PipelineResults, seconds: Seconds) -> Figures:
    teacher, student = results.scores.teacher, results.scores.students[0].student
    assert teacher, "the job has a teacher"
    return _with_totals(
        {
            "teacher_seconds": _training(teacher),
            "student_seconds": _training(student),
            "teacher_accuracy": teacher.accuracy,
            "student_accuracy": student.accuracy,
        },
        sum(seconds.values()),
    )


def _training(record: EvaluationRecord) -> float:
    if record.training_seconds is None:
        raise SystemExit("error: the model was not trained")
    return record.training_seconds


def _with_totals(figures: Figures, whole_seconds: float) -> Figures:
    training = figures["teacher_seconds"] + figures["student_seconds"]
    return figures | {"training_seconds": training, "whole_seconds": whole_seconds}


if __name__ == "__main__":
    main()
