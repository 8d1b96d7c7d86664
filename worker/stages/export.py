"""Export: a student as a file for another runtime, which counts as made once its answers are the student's."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import torch
from torch import nn

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.plan.recipes import Distill, Export
from distill_queue.shared.results.export import AdaptedRecord, ExportRecord
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation import quality
from distill_queue.worker.exports import page_program, timing
from distill_queue.worker.exports.deployable import Deployable, RawInputs, deployable, raw_batches
from distill_queue.worker.exports.exporter import Exporter, RunningFile
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.gate import Comparison, Logits, require_each_alone
from distill_queue.worker.exports.job import CALIBRATION_BATCH, CALIBRATION_SAMPLES, ExportJob
from distill_queue.worker.machine import plugins
from distill_queue.worker.stages.adaptation import adapt
from distill_queue.worker.stages.context import StageContext

#: Samples that a file answers at a time.
BATCH = 256
#: Samples that it answers one by one as well: their answers must not depend on the others.
ALONE = 16
#: Threads that a timing may use.
THREADS = 1
CPU = torch.device("cpu")


def run(recipe: Export, context: StageContext) -> ExportRecord:
    """Write a student as a file, and compare that file's answers with the student's on the whole test set."""
    exporter = Exporter.of(recipe.format, context.runtime.plugins)
    # On the CPU in float32, as the file is run: a card rounds in its own way.
    test = Split.open(context.inputs["dataset"].folder, "test", context.dataset, CPU, streamed=True)
    model = context.model("model", recipe.seed).to(CPU)
    of_model, adapted = quality.logits_of(model, test, context.report, BATCH).numpy(), None
    made = Made.of(model, of_model, exporter, recipe, context, test)
    if not exporter.integers:
        made.compared.require_same(context.title)
    else:
        tolerance = recipe.tolerance or 0.0
        if recipe.adaptations and not made.compared.is_accurate(tolerance):
            model = context.model("model", recipe.seed)  # Anew: the exported one has its batch norms folded.
            adapted = adapt(recipe, model, context, made.compared.accuracy)
            made = Made.of(model, of_model, exporter, recipe, context, test)
        made.compared.require_accurate(context.title, tolerance, _advice(recipe, adapted))
    if exporter.has_page_program:
        context.report("the program for the report's page")
        page_program.write(made.deployed, made.path, test, context.folder)
    context.report("latency")
    took = _timing(exporter.running, made.path, next(raw_batches(test, made.deployed.inputs, 1)))
    return _record(recipe, made, took, adapted)


@dataclass(frozen=True, slots=True)
class Made:
    """An exported file, and how its answers are."""

    path: Path
    deployed: Deployable
    file: RunningFile
    compared: Comparison

    @classmethod
    def of(
        cls,
        model: nn.Module,
        of_model: Logits,
        exporter: Exporter,
        recipe: Export,
        context: StageContext,
        test: Split,
    ) -> Self:
        """Write a student as a file, and have that file answer all test samples, some of them alone as well.

        Args:
            model: the student, which is moved to the CPU.
            of_model: the answers of the student as it was trained.
            exporter: writes the file and runs it.
            recipe: of the export.
            context: of the export.
            test: the test samples.

        """
        path, deployed = context.folder / exporter.file_name, deployable(model, test)
        facts = _facts(recipe, context, deployed)
        job = ExportJob(context.title, deployed, facts, lambda: _calibration(context, deployed))
        context.report(f"writing {path.name}")
        with plugins.called(recipe.format if is_reference(recipe.format) else ""):
            exporter.write(job, path)
            file = exporter.open(path, torch.get_num_threads())
            batches = raw_batches(test, deployed.inputs, BATCH)
            logits = np.concatenate(list(_answers(file, batches, len(test), context)))
            alone = [file.logits(each) for each in islice(raw_batches(test, deployed.inputs, 1), ALONE)]
        require_each_alone(context.title, logits[: len(alone)], np.concatenate(alone), integers=exporter.integers)
        return cls(path, deployed, file, Comparison.of(logits, of_model, test.targets.numpy()))


def _record(recipe: Export, made: Made, took: timing.Timing, adapted: AdaptedRecord | None) -> ExportRecord:
    compared = made.compared
    return ExportRecord(
        format=recipe.format,
        file=made.path.name,
        size_bytes=made.path.stat().st_size,
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
        runtime=made.file.runtime,
        machine=_machine(),
        operators=made.file.operators,
        adapted=adapted,
    )


def _answers(file: RunningFile, batches: Iterator[RawInputs], samples: int, context: StageContext) -> Iterator[Logits]:
    """The file's logits, batch by batch."""
    done = 0
    for batch in batches:
        logits = file.logits(batch)
        yield logits
        done += len(logits)
        context.report(f"the file answers: {done:,} of {samples:,} samples", len(logits), done / samples)


def _advice(recipe: Export, adapted: AdaptedRecord | None) -> str:
    """What to do about a file of integers that loses too much, as the end of a sentence."""
    if adapted is not None:
        return f", {adapted.words}: raise export.tolerance, or choose a wider student"
    return "" if recipe.adaptations else ": say export.quantise: aware, or raise the tolerance"


def _facts(recipe: Export, context: StageContext, deployed: Deployable) -> FileFacts:
    model, stage = context.inputs["model"].manifest, context.inputs["model"].manifest.stage
    trained = stage.recipe if stage else None
    return FileFacts(
        class_names=context.dataset.class_names,
        model_key=model.key,
        dataset_key=context.inputs["dataset"].manifest.key,
        inputs=deployed.inputs,
        distillation=trained.distillation.words if isinstance(trained, Distill) else "",
        licence=recipe.licence,
    )


def _calibration(context: StageContext, deployed: Deployable) -> Iterator[RawInputs]:
    """The first training samples: the packed order of a data set is always the same."""
    train: Split = context.split("train", streamed=True)
    for start, batch in enumerate(raw_batches(train, deployed.inputs, CALIBRATION_BATCH)):
        if start * CALIBRATION_BATCH >= CALIBRATION_SAMPLES:
            return
        yield batch


def _timing(running: str, file: Path, sample: RawInputs) -> timing.Timing:
    with TemporaryDirectory() as scratch:
        path = Path(scratch) / "sample.npz"
        np.savez(path, allow_pickle=False, **sample)
        return timing.timed(running, file, path, THREADS)


def _machine() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, {platform.machine()}"
