"""What unit tests share: a store, a stage, and scores made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "store")


@pytest.fixture
def stage(make_spec: Callable[..., PipelineSpec]) -> Stage:
    """Some stage."""
    return Plan.of(make_spec()).trunk[0]


def evaluation(accuracy: float, parameters: int = 100) -> EvaluationRecord:
    """Scores of which only accuracy and size matter."""
    return EvaluationRecord(
        samples=100,
        accuracy=accuracy,
        negative_log_likelihood=1.0,
        agreement=1.0,
        parameters=parameters,
        multiply_adds=1,
        size_bytes=1,
        latency_median_ms=1.0,
        latency_p95_ms=1.0,
        throughput=1.0,
        device="cpu",
        training_seconds=1.0,
    )
