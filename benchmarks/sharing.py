"""Soft labels by one worker and by two, against what the cost model says: one thread a worker, on one machine."""

from __future__ import annotations

import argparse
import tempfile
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import BLOCK_ROWS
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.stages.crew import START_SECONDS, worthwhile_helpers

ROUNDS = 3
VIEWS = (1, 2, 4)


def main() -> None:
    """Label with one worker and with two, in turn, and print what was expected beside it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    table = Table(title=f"Soft labels of a CNN, 60,000 samples a view: medians of {ROUNDS} rounds, one thread a worker")
    for name in (
        "views",
        "alone, s",
        "helpers by the model",
        "expected, s",
        "cold helper, s",
        "warm helper, s",
        "its share",
    ):
        table.add_column(name, justify="right")
    rows: dict[int, list[tuple[StageRecord, StageRecord, StageRecord]]] = {views: [] for views in VIEWS}
    for seed in range(ROUNDS):
        for views in VIEWS:
            rows[views].append(_round(views, seed))
    for views, found in rows.items():
        alone, cold, warm = (median(each.seconds for each in column) for column in zip(*found, strict=True))
        helpers = worthwhile_helpers(alone, present=1, read_bytes=0)
        expected = expected_seconds(alone, helpers, START_SECONDS)
        share = median(_share(each) for _, _, each in found)
        cells = (
            f"{views}",
            f"{alone:.1f}",
            f"{helpers}",
            f"{expected:.1f}",
            f"{cold:.1f}",
            f"{warm:.1f}",
            f"{share:.0%}",
        )
        table.add_row(*cells)
    table.caption = (
        f"alone: the same two workers, shards: 1 · expected: with a helper that starts {START_SECONDS:g} s after the "
        "call · cold: the helper has not loaded torch yet · its share: of the blocks, warm"
    )
    Console(width=120).print(table)


def expected_seconds(seconds: float, helpers: int, start_seconds: float) -> float:
    """How long work takes with helpers that start after some seconds, by the formula in `worker.stages.crew`."""
    return min(seconds, start_seconds + max(0.0, seconds - start_seconds) / (helpers + 1))


def _round(views: int, seed: int) -> tuple[StageRecord, StageRecord, StageRecord]:
    """The labelling alone, with a helper that has done nothing before, and with one that has."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(store=folder, threads=1)
        with LocalStack(settings, workers=2) as stack:
            client = PipelineClient(stack.settings)
            cold, alone, warm = (
                _labelled(client, _spec(views, 10 * seed + number, shards))
                for number, shards in enumerate(("auto", 1, "auto"))
            )
    return alone, cold, warm


def _labelled(client: PipelineClient, spec: PipelineSpec) -> StageRecord:
    """How the labels of a pipeline came about; what comes after them is cancelled."""
    pipeline = client.submit(spec).id
    for status in client.watch(pipeline):
        state = status.states[status.plan.trunk[2].key]
        if state.record:
            client.cancel(pipeline)
            return state.record
        if status.finished:
            raise SystemExit(f"error: {status.errors}")
    raise SystemExit("error: the pipeline is gone")


def _share(record: StageRecord) -> float:
    labels = record.record
    if not isinstance(labels, SoftLabelsRecord):
        raise SystemExit("error: no labels")
    return labels.blocks_of_helpers / (labels.views * -(-labels.samples // BLOCK_ROWS))


def _spec(views: int, seed: int, shards: Any) -> PipelineSpec:
    return PipelineSpec.model_validate(
        {
            "name": "sharing",
            "dataset": {"name": "fashion_mnist"},
            "teacher": {"model": {"name": "cnn"}, "training": {"epochs": 1}},
            "soft_labels": {"views": views, "augmentation": {"shift": 2, "seed": seed}, "shards": shards},
            "students": [{"name": "small", "model": {"name": "mlp", "hidden": [16]}, "training": {"epochs": 1}}],
            "evaluation": {"control": False},
        }
    )


if __name__ == "__main__":
    main()
