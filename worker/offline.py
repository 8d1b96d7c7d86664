"""Offline: a client calls the worker's code without a broker, by one JSON request on standard input.

`python -m distill_queue.worker.offline` answers with a last line of JSON: {"result": …}, or {"error": …,
"kind": …}, one of `shared.errors.ERROR_KINDS` or "other". Lines {"progress": …} may come before.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any

from distill_queue.worker.machine import libraries

if __name__ == "__main__":
    libraries.restart_set_up()  # Before slow imports, and before anything reads the variables.

import numpy as np
import numpy.typing as npt
import torch

from distill_queue.shared.errors import ArtifactDamaged, DistillError, InvalidInput, InvalidSpec, kind_of, store_errors
from distill_queue.shared.plan.demands import without_views
from distill_queue.shared.plan.recipes import Export, ImportSoftLabels, SoftLabelling
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.numerics import Floats
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.dataset import DatasetSpec, dataset_reader
from distill_queue.shared.store.store import store_of
from distill_queue.worker.data import load as data
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.split import Split
from distill_queue.worker.data.views.augment import augment
from distill_queue.worker.data.views.fingerprint import header_facts
from distill_queue.worker.evaluation.quality import BATCH
from distill_queue.worker.exports.configuration import configuration_of
from distill_queue.worker.machine.inputs import each, through
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.stages.soft_labels import Labelling


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    settings = Settings.load()
    runner = StageRunner(store_of(settings), Runtime.probe(settings, "any"), _report)
    found: Any
    try:
        with store_errors(settings.folder):
            match request:
                case {"samples": stage, "augmentation": augmentation, "views": views, "folder": folder}:
                    seen = AugmentationSpec.model_validate(augmentation)
                    found = write_samples(Stage.model_validate(stage), seen, views, Path(folder), runner)
                case {"recompute": ref, "rows": rows, "seed": seed}:
                    found = recompute(ArtifactRef.model_validate(ref), rows, seed, runner)
                case {"data": dataset}:
                    found = describe(dataset_reader().validate_python(dataset), runner).model_dump(mode="json")
                case {"export": stage}:
                    found = export(Stage.model_validate(stage), runner)
                case {"configuration": ref, "seed": seed, "dataset": dataset}:
                    model, data_set = (ArtifactRef.model_validate(each) for each in (ref, dataset))
                    found = library_configuration(model, seed, data_set, runner)
                case _:
                    raise InvalidInput(f"unknown request: {', '.join(request)}")
    except DistillError as error:
        answer: dict[str, Any] = {"error": str(error), "kind": kind_of(error)}
    else:
        answer = {"result": found}
    sys.stdout.write(json.dumps(answer) + "\n")


def _report(progress: str, _samples: int = 0, _share: float | None = None, /) -> None:
    """Say how far a stage is."""
    sys.stdout.write(json.dumps({"progress": progress}) + "\n")
    sys.stdout.flush()


def describe(dataset: DatasetSpec, runner: StageRunner) -> DatasetRecord:
    """Read a data set, and keep nothing but its description."""
    with TemporaryDirectory() as scratch:
        return data.load(dataset, Reading(runner.runtime, Path(scratch), runner.report)).describe()


def write_samples(
    stage: Stage, seen: AugmentationSpec, views: int, folder: Path, runner: StageRunner
) -> dict[str, Any]:
    """Write a data set's training samples in the order of their soft labels; pack the data set first if need be.

    `inputs.npy` is `[samples, ...]` as stored, or with an augmentation `[views, samples, ...]`, float32 on the stored
    scale; `targets.npy` is `[samples]`, -1 for a sample without a label.

    Returns:
        Facts for the file of the labels.

    Raises:
        InvalidSpec: the samples have no such views.

    """
    artifact = runner.store.obtain(stage.ref) or runner.run(stage)
    context = runner.context({"dataset": artifact}, folder)
    if text := without_views("soft_labels", seen, context.dataset):
        raise InvalidSpec(text)
    copyfile(artifact.path("train_targets.npy"), folder / "targets.npy")
    if seen.changes_nothing:
        copyfile(artifact.path("train_inputs.npy"), folder / "inputs.npy")
    else:
        _write_views(context.split("train"), seen, views, folder / "inputs.npy")
    return {
        "dataset_key": stage.key,
        "class_names": context.dataset.class_names,
        **header_facts(seen, views),
    }


def _write_views(split: Split, seen: AugmentationSpec, views: int, path: Path) -> None:
    inputs = torch.as_tensor(split.inputs)
    header = {"descr": "<f4", "fortran_order": False, "shape": (views, *inputs.shape)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for view in range(views):
            for rows in torch.arange(len(inputs), device=inputs.device).split(BATCH):
                file.write(augment(inputs, rows, view, seen, split.white).inputs.cpu().numpy().tobytes())


def export(stage: Stage, runner: StageRunner) -> str:
    """Export a student; return the key.

    Raises:
        StageFailed: the file's answers are not the student's, or it cannot be exported.
        ArtifactMissing: the student or its data are not in the store.

    """
    if not isinstance(stage.recipe, Export):
        raise InvalidInput(f"{stage.title} is no export")
    return (runner.store.obtain(stage.ref) or runner.run(stage)).manifest.key


def library_configuration(
    model: ArtifactRef, seed: int | None, dataset: ArtifactRef, runner: StageRunner
) -> dict[str, Any]:
    """What the `config.json` of a trained model of transformers says."""
    inputs = {"model": runner.store.open(model), "dataset": runner.store.glance(dataset)}
    return configuration_of(runner.context(inputs, Path()).model("model", seed))


@torch.inference_mode()
def recompute(ref: ArtifactRef, rows: int, seed: int, runner: StageRunner) -> dict[str, Any]:
    """Compute random rows of a stage's soft labels again.

    Returns:
        `rows`: their number; `error`: the largest difference of a kept logit, less what the encoding's rounding
        explains, as a share of the largest logit of its row; `sample` and `view`: where it is.

    Raises:
        InvalidInput: the labels were imported, and there is no teacher.

    """
    artifact = runner.store.open(ref)
    stage = artifact.manifest.stage
    if stage is None or isinstance(stage.recipe, ImportSoftLabels):
        raise InvalidInput("the labels were imported: there is no teacher here to compute any again")
    if not isinstance(stage.recipe, SoftLabelling):
        raise ArtifactDamaged(f"{artifact.folder}: not the artifact of soft labels")
    labels = SoftLabels.open(artifact.folder)
    labelling = Labelling(stage.recipe, runner.context(runner.opened(stage), Path()))
    random, computed = np.random.default_rng(seed), 0
    worst = {"error": -1.0, "sample": 0, "view": 0}
    views, counts = np.unique(random.integers(labels.header.views, size=rows), return_counts=True)
    for view, count in zip(views.tolist(), counts.tolist(), strict=True):
        samples = random.choice(len(labels), size=min(count, len(labels)), replace=False)
        for start in range(0, len(samples), labelling.batch_size):
            batch = np.sort(samples[start : start + labelling.batch_size])
            errors = _errors(labels, batch, view, labelling)
            if errors.max() > worst["error"]:
                worst = {"error": float(errors.max()), "sample": int(batch[errors.argmax()]), "view": view}
        computed += len(samples)
    return {"rows": computed, **worst}


def _errors(labels: SoftLabels, samples: npt.NDArray[np.int64], view: int, labelling: Labelling) -> Floats:
    """The difference of each sample's stored logits from the teacher's, as a share of its largest logit."""
    batch = labelling.batches(torch.from_numpy(samples)[None], view)
    inputs = each(batch.inputs, lambda tensor: tensor[0])
    logits = through(labelling.teacher, inputs).float().cpu().numpy()
    encoding, stored = labels.header.encoding, labels.stored(samples, view)
    differences = [np.abs(encoding.kept(stored) - logits).max(axis=1)] if encoding.top_k is None else []
    if encoding.top_k is not None:
        kept, largest = encoding.kept(stored), -np.sort(-logits, axis=1)[:, : encoding.top_k]
        of_kept = np.take_along_axis(logits, stored[0].astype(np.int64), axis=1)
        sums = Encoding(dtype="float32", top_k=encoding.top_k).encode(logits)[2]
        differences = [np.abs(kept - each).max(axis=1) for each in (of_kept, largest)]
        differences.append(np.abs(stored[2] - sums).max(axis=1))
    difference = np.maximum.reduce(differences) - encoding.rounding(stored)
    errors = np.maximum(difference, 0.0) / np.maximum(np.abs(logits).max(axis=1), 1e-6)
    return np.nan_to_num(errors, nan=np.inf)


if __name__ == "__main__":
    main()
