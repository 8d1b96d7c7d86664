"""The accuracy that students keep with each encoding. A part of `python -m benchmarks.labels`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.label_extents import FULL, Extent, table_of
from distill_queue.shared.soft_labels.encoding import Encoding

#: Where Debian's package has Fashion-MNIST.
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def accuracies(folder: Path, extent: Extent) -> Iterator[Table]:
    """Accuracy of students with each encoding of one teacher's logits, and how far it is from float32's."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spec.pipeline import PipelineSpec
    from distill_queue.worker.evaluation.scores import estimate

    dataset = "fashion_mnist" if FASHION_MNIST.exists() and extent is FULL else "mnist_5k"
    kinds: list[dict[str, Any]] = [{"dtype": dtype} for dtype in ("float32", "float16", "uint8")]
    kinds += [{"dtype": "float16", "top_k": k} for k in (5, 3, 1)]
    title = f"Student MLP 128 of teacher MLP 512-256 on {dataset}, T 4, alpha 0.9, {extent.seeds} seeds"
    table = table_of(title, "accuracy", "to float32")
    base: list[float] = []
    with LocalStack(Settings(store=str(folder)), workers=1) as stack:
        client = PipelineClient(stack.settings)
        for kind in kinds:
            pipeline = client.submit(PipelineSpec.model_validate(_spec(dataset, kind, extent))).id
            for _ in client.watch(pipeline):
                pass
            score = client.results(pipeline).scores.students[0]
            accuracy = [run.student.accuracy for run in score.runs]
            base = base or accuracy
            difference = estimate([ours - theirs for ours, theirs in zip(accuracy, base, strict=True)])
            name = Encoding.model_validate(kind).name
            table.add_row(name, _interval(score.accuracy, ".2%"), _interval(difference, "+.2%"))
    table.caption = "mean ± half of the 95 % interval over the seeds; differences are of the same seed"
    yield table


def _spec(dataset: str, soft_labels: dict[str, Any], extent: Extent) -> dict[str, Any]:
    training = {"epochs": extent.epochs, "batch_size": 256, "learning_rate": 1e-3}
    return {
        "name": "labels",
        "dataset": {"name": dataset},
        "teacher": {"model": {"name": "mlp", "hidden": [512, 256]}, "training": training},
        "soft_labels": soft_labels,
        "students": [
            {
                "name": "small",
                "model": {"name": "mlp", "hidden": [128]},
                "distillation": {"temperature": 4.0, "alpha": 0.9},
                "training": training,
                "seeds": extent.seeds,
            }
        ],
        "evaluation": {"control": False},
    }


def _interval(estimate: Any, text: str) -> str:
    half = f" ± {(estimate.high - estimate.low) / 2:.2%}" if estimate.low is not None else ""
    return f"{estimate.mean:{text}}{half}"
