"""Crews of workers that label together: the cost model, and blocks that are given to helpers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages import crew
from distill_queue.worker.stages import soft_labels as labelling
from distill_queue.worker.stages.crew import START_SECONDS, worthwhile_helpers
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
CPU = Runtime(torch.device("cpu"))
#: Of 1,438 samples in blocks of 1,024.
BLOCKS = 2 * 6


@dataclass
class Others:
    """A crew in which other workers take some blocks and never finish them."""

    present: int = 3
    taken: frozenset[int] = frozenset()
    hears: bool = True
    calls: list[tuple[int, int]] = field(default_factory=list)
    given: list[int] = field(default_factory=list)

    def call(self, helpers: int, seconds: float, /) -> bool:
        self.calls.append((helpers, len(self.given)))
        return self.hears

    def blocks(self, total: int) -> Iterator[int]:
        for block in range(total):
            if block not in self.taken:
                self.given.append(block)
                yield block


def labels(make_spec: MakeSpec, folder: Path, others: Others, shards: Any = "auto") -> SoftLabelsRecord:
    """The record of labels of six views that were made in company."""
    spec = make_spec(soft_labels={"views": 6, "augmentation": {"shift": 1}})
    store = FolderStore(folder)
    data, teacher, soft_labels = Plan.of(spec).trunk
    for stage in (data, teacher):
        StageRunner(store, CPU, lambda *_: None).run(stage)
    record = StageRunner(store, CPU, lambda *_: None, crew=others, shards=shards).run(soft_labels).record
    assert isinstance(record, SoftLabelsRecord)
    return record


@pytest.fixture
def free_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helpers that start at once, and are known to pay off at once."""
    monkeypatch.setattr(crew, "START_SECONDS", 1e-9)
    monkeypatch.setattr(crew, "READ_BYTES_PER_SECOND", 1e30)
    monkeypatch.setattr(labelling, "TRIAL_SECONDS", 1e-9)


def test_help_is_called_where_it_pays_and_once_for_each_worker(
    make_spec: MakeSpec, tmp_path: Path, free_help: None
) -> None:
    others = Others()

    labels(make_spec, tmp_path, others)

    assert others.calls == [(3, 2)], "three helpers, before the second block"


def test_help_that_does_not_pay_is_not_called(
    make_spec: MakeSpec, tmp_path: Path, free_help: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "START_SECONDS", 1e9)
    others = Others()

    labels(make_spec, tmp_path, others)

    assert others.calls == []


@pytest.mark.parametrize(("shards", "calls"), [(1, []), (2, [(1, 1)]), (4, [(3, 1)]), (1_000, [(3, 1)])])
def test_a_number_of_shards_calls_at_once_whoever_is_there(
    make_spec: MakeSpec, tmp_path: Path, shards: int, calls: list[tuple[int, int]]
) -> None:
    others = Others()

    labels(make_spec, tmp_path, others, shards)

    assert others.calls == calls


def test_workers_that_come_later_are_called_later(
    make_spec: MakeSpec, tmp_path: Path, free_help: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "AGAIN_SECONDS", 0.0)

    class Growing(Others):
        @property
        def present(self) -> int:
            return len(self.given) // 4

        @present.setter
        def present(self, _value: int) -> None: ...

    others = Growing()

    labels(make_spec, tmp_path, others)

    assert [helpers for helpers, _ in others.calls] == [1, 1]


def test_what_others_took_and_never_finished_is_done_in_the_end(make_spec: MakeSpec, tmp_path: Path) -> None:
    others = Others(taken=frozenset({0, 3, 7, 11}))

    record = labels(make_spec, tmp_path / "together", others)
    alone = labels(make_spec, tmp_path / "alone", Others())

    assert (record.samples, record.blocks_of_helpers) == (1438, 0)
    assert record == alone
    assert len(others.given) == BLOCKS - 4


@given(seconds=st.floats(0.0, 1e6), present=st.integers(0, 1_000), read_bytes=st.integers(0, 10**12))
def test_with_the_helpers_that_are_called_it_never_takes_longer(seconds: float, present: int, read_bytes: int) -> None:
    start = START_SECONDS + read_bytes / crew.READ_BYTES_PER_SECOND

    helpers = worthwhile_helpers(seconds, present, read_bytes)

    assert 0 <= helpers <= present
    if helpers:
        assert seconds / (helpers + 1) >= start * (1 - 1e-9), "each labels for as long as it starts"
        assert start + (seconds - start) / (helpers + 1) <= seconds
    elif present and seconds >= 2 * start * (1 + 1e-9):
        raise AssertionError("one would have paid")
