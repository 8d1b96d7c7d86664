"""The main job against the notebook it comes from and against torchdistill: same data, models and epochs, in turn."""

from __future__ import annotations

import json
import os
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

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

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
    rounds = [{name: run(seed) for name, run in contenders.items()} for seed in range(ROUNDS)]
    table = Table(title=f"Fashion-MNIST, 5 + 5 epochs: medians of {ROUNDS} seeds in turn, {os.cpu_count()} cores")
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
    with job.prepared(seed) as (folder, spec, _):
        started = time.monotonic()
        environment = os.environ | {"DISTILL_STORE": str(folder)}
        subprocess.run([*DISTILL, "run", spec], env=environment, stdout=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - started
        (path,) = (folder / "reports").glob("*.json")
        return _figures(PipelineResults.model_validate_json(path.read_text()), seconds)


def warm(seed: int, job: Job = MAIN_JOB) -> Figures:
    """Figures of a pipeline that is submitted to a worker which has done another one, with an empty store else."""
    with job.prepared(seed) as (folder, spec, warm_up), LocalStack(Settings(store=str(folder)), workers=1) as stack:
        client = PipelineClient(stack.settings)
        _done(client, client.submit(PipelineSpec.load(warm_up)).id)
        started = time.monotonic()
        results = _done(client, client.submit(PipelineSpec.load(spec)).id)
        return _figures(results, time.monotonic() - started)


def _done(client: PipelineClient, pipeline: str) -> PipelineResults:
    for _ in client.watch(pipeline):
        pass
    return client.results(pipeline)


def _figures(results: PipelineResults, seconds: float) -> Figures:
    teacher, student = results.scores.teacher, results.scores.students[0].student
    assert teacher, "the job has a teacher"
    return _with_totals(
        {
            "teacher_seconds": _training(teacher),
            "student_seconds": _training(student),
            "teacher_accuracy": teacher.accuracy,
            "student_accuracy": student.accuracy,
        },
        seconds,
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
