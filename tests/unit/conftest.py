"""What unit tests share: a store, a stage, and scores made up."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore

#: What a unit test may take with `--slow-tests-fail`: of processor time, and by the clock, as the machine may be busy.
PROCESSOR_SECONDS = 1.0
CLOCK_SECONDS = 3.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `make check` ask for it."""
    parser.addoption("--slow-tests-fail", action="store_true", help="fail unit tests that take more than a second")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that takes too long, where that was asked for; what its fixtures take is not its own."""
    before = os.times()
    result = yield
    after = os.times()
    if item.config.getoption("slow_tests_fail", default=False):
        processor = sum(after[:4]) - sum(before[:4])  # Its process, and those that it started and that ended.
        clock = after.elapsed - before.elapsed
        if processor > PROCESSOR_SECONDS or clock > CLOCK_SECONDS:
            pytest.fail(f"slow: {processor:.1f} s of processor time, {clock:.1f} s: {item.nodeid}", pytrace=False)
    return result


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "store")


@pytest.fixture
def stage(make_spec: Callable[..., PipelineSpec]) -> Stage:
    """Some stage."""
    return Plan.of(make_spec()).trunk[0]


def evaluation(accuracy: float, parameters: int = 100) -> EvaluationRecord:
    """Scores in which only accuracy and size matter."""
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
