"""Offline: what a client asks of the worker's code without a broker, as one JSON request on standard input.

`python -m worker.offline` answers with one line of JSON: {"result": …}, or {"error": …, "input": whether it is the
user's to mend}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shared.errors import ArtifactDamaged, DistillError, InvalidInput
from shared.recipes import ImportSoftLabels, SoftLabelling
from shared.settings import Settings
from shared.soft_labels import SoftLabels
from shared.stage import ArtifactRef, Stage
from shared.store import ArtifactStore
from worker.desk import Desk
from worker.labelling import Labelling
from worker.runtime import Runtime
from worker.stages import Workshop


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    settings = Settings.load()
    store, runtime = ArtifactStore(settings.store), Runtime.probe(settings, "any")
    found: Any
    try:
        match request:
            case {"prepare": stage}:
                found = prepare(Stage.model_validate(stage), store, runtime)
            case {"recompute": ref, "rows": rows, "seed": seed}:
                found = recompute(ArtifactRef.model_validate(ref), rows, seed, store, runtime)
            case _:
                raise InvalidInput(f"unknown request: {', '.join(request)}")
    except DistillError as error:
        answer: dict[str, Any] = {"error": str(error), "input": isinstance(error, InvalidInput)}
    else:
        answer = {"result": found}
    sys.stdout.write(json.dumps(answer) + "\n")


def prepare(stage: Stage, store: ArtifactStore, runtime: Runtime) -> str:
    """Pack a data set, unless it is there; return the folder of its artifact."""
    artifact = store.find(stage.ref) or Workshop(store, runtime, lambda _progress: None).run(stage)
    return str(artifact.folder)


@torch.inference_mode()
def recompute(ref: ArtifactRef, rows: int, seed: int, store: ArtifactStore, runtime: Runtime) -> dict[str, Any]:
    """Compute random rows of a stage's soft labels again.

    Returns:
        `rows`: how many; `error`: the largest difference of a kept logit, less what the encoding's rounding explains,
        as a share of the largest logit of its row; `sample` and `view`: where.

    Raises:
        InvalidInput: the labels were imported, and there is no teacher.

    """
    artifact = store.open(ref)
    stage = artifact.manifest.stage
    if stage is None or isinstance(stage.recipe, ImportSoftLabels):
        raise InvalidInput("the labels were imported: there is no teacher here to compute any again")
    if not isinstance(stage.recipe, SoftLabelling):
        raise ArtifactDamaged(f"{artifact.folder}: not the artifact of soft labels")
    labels = SoftLabels.open(artifact.folder)
    inputs = {role: store.open(each) for role, each in stage.inputs.items()}
    labelling = Labelling(stage.recipe, Desk(inputs, Path(), runtime, lambda _progress: None))
    random = np.random.default_rng(seed)
    worst = {"error": -1.0, "sample": 0, "view": 0}
    for view, count in zip(
        *np.unique(random.integers(labels.header.views, size=rows), return_counts=True), strict=True
    ):
        samples = random.choice(len(labels), size=min(int(count), len(labels)), replace=False)
        for start in range(0, len(samples), labelling.batch_size):
            batch = np.sort(samples[start : start + labelling.batch_size])
            errors = _errors(labels, batch, int(view), labelling)
            if errors.max() > worst["error"]:
                worst = {"error": float(errors.max()), "sample": int(batch[errors.argmax()]), "view": int(view)}
    return {"rows": rows, **worst}


def _errors(labels: SoftLabels, samples: np.ndarray[Any, np.dtype[np.int64]], view: int, labelling: Labelling) -> Any:
    """By how much each sample's stored logits differ from the teacher's, as a share of its largest logit."""
    inputs = labelling.batches(torch.from_numpy(samples)[None], view).inputs[0]
    logits = labelling.teacher(inputs).float().cpu().numpy()
    encoding, stored = labels.header.encoding, labels.stored(samples, view)
    expected = logits if encoding.top_k is None else np.take_along_axis(logits, stored[0].astype(np.int64), axis=1)
    difference = np.abs(encoding.kept(stored) - expected).max(axis=1) - encoding.rounding(stored)
    if encoding.top_k is not None:  # What stands for the classes that are not kept.
        everything = np.logaddexp.reduce(logits.astype(np.float64), axis=1)
        difference = np.maximum(difference, np.abs(stored[2][:, 0] - everything))
    return np.maximum(difference, 0.0) / np.maximum(np.abs(logits).max(axis=1), 1e-6)


if __name__ == "__main__":
    main()
