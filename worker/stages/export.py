"""Export: a student as a file for another runtime, which counts as made once its answers are the student's."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from distill_queue.shared.plan.recipes import Distill, Export
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.spec.export import FORMATS
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation import quality
from distill_queue.worker.exports import timing
from distill_queue.worker.exports.deployable import Deployable, RawInputs, deployable, raw_batches
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.gate import Comparison, Logits
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine import extras
from distill_queue.worker.machine.runtime import Report
from distill_queue.worker.stages.context import StageContext

#: Training samples by which ranges of values are found, and how many of them at a time.
CALIBRATION_SAMPLES, CALIBRATION_BATCH = 256, 64
#: Samples that a file answers at a time.
BATCH = 256
#: Threads that a timing may use.
THREADS = 1


def run(recipe: Export, context: StageContext) -> ExportRecord:
    """Write a student as a file, and compare that file's answers with the student's on the whole test set."""
    found = FORMATS[recipe.format]
    for library in found.libraries:
        extras.require(library, found.extra, f"export.formats: {recipe.format} needs")
    exporter: Any = import_module(f"distill_queue.worker.exports.{found.module}")
    runtime: Any = import_module(f"distill_queue.worker.exports.{exporter.RUNTIME}")
    model = context.model("model", recipe.seed)
    test, batch_size = context.split_for(model, "test")
    context.report("the student's own answers")
    of_model = quality.logits_of(model, test, context.report, batch_size).cpu().numpy()
    path, deployed = context.folder / found.file, deployable(model, test)
    context.report(f"writing {found.file}")
    exporter.write(
        ExportJob(context.title, deployed, _facts(context, deployed), lambda: _calibration(context, deployed)), path
    )
    file = runtime.File(path, THREADS)
    logits = np.concatenate(list(_answers(file, deployed, test, context.report)))
    compared = Comparison.of(logits, of_model, test.targets.cpu().numpy())
    if recipe.tolerance is None:
        compared.require_same(context.title)
    else:
        compared.require_accurate(context.title, recipe.tolerance)
    context.report("latency")
    took = _timing(exporter.RUNTIME, path, next(raw_batches(test, deployed.inputs, 1)))
    return ExportRecord(
        format=recipe.format,
        file=found.file,
        size_bytes=path.stat().st_size,
        samples=compared.samples,
        accuracy=compared.accuracy,
        model_accuracy=compared.model_accuracy,
        agreement=compared.agreement,
        difference=compared.difference,
        logits_range=compared.logits_range,
        latency_median_ms=took.median_ms,
        latency_p95_ms=took.p95_ms,
        cold_start_ms=took.cold_start_ms,
        threads=THREADS,
        runtime=file.runtime,
        machine=_machine(),
        operators=file.operators,
    )


def _answers(file: Any, deployed: Deployable, test: Split, report: Report) -> Iterator[Logits]:
    """A file's logits `[rows, classes]` of each batch: some files take the samples one by one, which takes a while."""
    done = 0
    for batch in raw_batches(test, deployed.inputs, BATCH):
        logits = file.logits(batch)
        yield logits
        done += len(logits)
        report(f"the file's answers: {done:,} of {len(test):,} samples", len(logits), done / len(test))


def _facts(context: StageContext, deployed: Deployable) -> FileFacts:
    model, stage = context.inputs["model"].manifest, context.inputs["model"].manifest.stage
    recipe = stage.recipe if stage else None
    return FileFacts(
        class_names=context.dataset.class_names,
        model_key=model.key,
        dataset_key=context.inputs["dataset"].manifest.key,
        inputs=deployed.inputs,
        distillation=recipe.distillation.words if isinstance(recipe, Distill) else "",
    )


def _calibration(context: StageContext, deployed: Deployable) -> Iterator[RawInputs]:
    """The first training samples: the packed order of a data set is always the same."""
    train: Split = context.split("train", streamed=True)
    for start, batch in enumerate(raw_batches(train, deployed.inputs, CALIBRATION_BATCH)):
        if start * CALIBRATION_BATCH >= CALIBRATION_SAMPLES:
            return
        yield batch


def _timing(runtime: str, file: Path, sample: RawInputs) -> timing.Timing:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "sample.npz"
        np.savez(path, allow_pickle=False, **sample)
        return timing.timed(runtime, file, path, THREADS)


def _machine() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.machine()}"
