"""Exported students beside the same students in torch, on Fashion-MNIST: bytes, answers, and times at batch 1.

`python -m benchmarks.exports` trains and exports the students of `examples/export.yaml`, to every format whose
libraries are installed here, and keeps them in `.bench-export`. `--times` measures the times alone, of the students
that are there: to be run on a quiet machine, in a minute or two. `--processes 9` for more of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Export
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.results.interval import wilson
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.export import FORMATS
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import store_of
from distill_queue.worker.exports import timing
from distill_queue.worker.exports.deployable import deployable, raw_batches
from distill_queue.worker.exports.exporter import Exporter
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.context import WEIGHTS, record_of
from distill_queue.worker.stages.runner import StageRunner

ROOT = Path(__file__).parents[1]
SPEC = ROOT / "examples" / "export.yaml"
STORE = ROOT / ".bench-export"
#: Processes that each time is the median of; a model's and its files' take turns.
PROCESSES = 5
TIMES = ("median_ms", "p95_ms", "cold_start_ms")
Times = dict[str, list[timing.Timing]]


@dataclass(frozen=True, slots=True)
class Student:
    """A trained student and its files, by the format."""

    name: str
    model: Artifact
    exports: dict[str, tuple[Stage, Artifact]]


def main() -> None:
    """Print the answers' table, and then that of the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", action="store_true", help="measure the times alone")
    parser.add_argument("--processes", type=int, default=PROCESSES, help="how many each time is the median of")
    parser.add_argument("--store", type=Path, default=STORE, help="where the students are kept")
    given = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    console = Console(width=190)
    runner = StageRunner(
        store := store_of(settings := Settings(store=str(given.store))),
        Runtime.probe(settings, "any"),
        lambda *_: None,
    )
    stages = [stage for stage in Plan.of(spec()).stages if stage.kind not in ("evaluate", "report")]
    for stage in stages:
        if stage.ref not in store:
            console.print(f"{stage.title} …")
            runner.run(stage)
    students = list(students_in(runner, stages))
    if not given.times:
        console.print(answers_table(students))
    console.print(times_table({each.name: times_of(each, runner, given.processes) for each in students}))


def spec() -> PipelineSpec:
    """The example's spec with all formats that can be written here."""
    formats = [name for name in FORMATS if "executorch" not in name or find_spec("executorch")]
    students = [f"students.{number}.export.formats=[{', '.join(formats)}]" for number in range(3)]
    return PipelineSpec.load(SPEC, students)


def students_in(runner: StageRunner, stages: list[Stage]) -> Iterator[Student]:
    """The students that have exports, in the spec's order."""
    models = {stage.inputs["model"].key: stage.inputs["model"] for stage in stages if isinstance(stage.recipe, Export)}
    for key, ref in models.items():
        exports = {
            stage.recipe.format: (stage, runner.store.open(stage.ref))
            for stage in stages
            if isinstance(stage.recipe, Export) and stage.inputs["model"].key == key
        }
        title = next(iter(exports.values()))[0].title
        yield Student(title.removeprefix("export ").partition(" to ")[0], runner.store.open(ref), exports)


def answers_table(students: list[Student]) -> Table:
    """Bytes and answers of every file, as its export found them on the whole test set."""
    table = Table(title="Fashion-MNIST: students in torch and as files")
    for column in ("", "bytes", "ratio", "largest difference", "agreement", "accuracy, 95 % interval"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for student in students:
        size = student.model.path(WEIGHTS).stat().st_size
        records = {name: record_of(artifact, ExportRecord) for name, (_, artifact) in student.exports.items()}
        first = next(iter(records.values()))
        table.add_row(
            f"{student.name}: torch", f"{size:,}", "1.00", "", "", percent(first.model_accuracy, first.samples)
        )
        for name, record in records.items():
            table.add_row(
                f"  {name}",
                f"{record.size_bytes:,}",
                f"{record.size_bytes / size:.2f}",
                f"{record.difference:.1e} ({record.difference / record.logits_range:.1e} of the range)",
                f"{record.agreement:.2%}",
                percent(record.accuracy, record.samples),
            )
    table.caption = "bytes of torch: model.safetensors; the difference is that of a logit on all test samples"
    return table


def percent(share: float, samples: int) -> str:
    """An accuracy with its interval."""
    low, high = wilson(share, samples)
    return f"{100 * share:.2f} ({100 * low:.2f} to {100 * high:.2f})"


def times_of(student: Student, runner: StageRunner, processes: int) -> Times:
    """Times of a student in torch and of its files, from several processes each, which take turns."""
    found: Times = {"torch": [], **{name: [] for name in student.exports}}
    with tempfile.TemporaryDirectory() as folder:
        model, sample = Path(folder) / "model.pt", Path(folder) / "sample.npz"
        stage, _ = next(iter(student.exports.values()))
        context = runner.context(runner.opened(stage), Path(folder))
        test = context.split("test", streamed=True)
        deployed = deployable(context.model("model"), test)
        torch.save(deployed, model)
        np.savez(sample, allow_pickle=False, **next(raw_batches(test, deployed.inputs, 1)))
        for _ in range(processes):
            found["torch"].append(in_torch(model, sample))
            for name, (_, artifact) in student.exports.items():
                file = artifact.path(FORMATS[name].file)
                found[name].append(timing.timed(Exporter.of(name, ()).running, file, sample, 1))
    return found


def in_torch(model: Path, sample: Path) -> timing.Timing:
    """The times of a model in a process of its own, with one thread, measured as those of a file."""
    command = [sys.executable, "-P", "-c", IN_TORCH, str(model), str(sample)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return timing.Timing(**json.loads(done.stdout.splitlines()[-1]))


#: What such a process runs: the same numbers of answers as `worker.exports.timing` asks a file for.
IN_TORCH = """
import json, sys, time
from statistics import median, quantiles
import numpy, torch
import distill_queue.worker.exports.deployable, distill_queue.worker.models
from distill_queue.worker.exports import timing
from distill_queue.worker.exports.exporter import Exporter
torch.set_num_threads(1)
with numpy.load(sys.argv[2]) as arrays:
    samples = [torch.from_numpy(each) for each in arrays.values()]
with torch.inference_mode():
    started = time.perf_counter()
    model = torch.load(sys.argv[1], weights_only=False)
    model(*samples)
    cold = time.perf_counter() - started
    times = timing.answer_times(lambda: model(*samples))
print(json.dumps({"median_ms": median(times), "p95_ms": quantiles(times, n=20)[-1], "cold_start_ms": cold * 1e3}))
"""


def times_table(students: dict[str, Times]) -> Table:
    """Times of each student in torch and as files, with ratios to torch."""
    table = Table(title="one sample, 1 thread: ms in torch and in the file's own runtime")
    for column in ("", "median", "ratio", "95 %", "ratio", "cold start", "ratio"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, times in students.items():
        for kind, found in times.items():
            row = [f"{name}: torch" if kind == "torch" else f"  {kind}"]
            for what in TIMES:
                values = [getattr(each, what) for each in found]
                row.append(f"{median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
                row.append(ratio([getattr(each, what) for each in times["torch"]], values))
            table.add_row(*row)
    processes = len(next(iter(students.values()))["torch"])
    table.caption = (
        f"medians of {processes} processes in turn, and the lowest and highest of them; ratios to torch of the same "
        f"turn: their median and range · {time.strftime('%Y-%m-%d')}, load average {os.getloadavg()}"
    )
    return table


def ratio(torch_times: list[float], times: list[float]) -> str:
    """Times as shares of torch's in the same turn."""
    ratios = [each / of_torch for each, of_torch in zip(times, torch_times, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
