"""Soft labels that several workers compute together."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.acceptance.conftest import MISBEHAVING, lines_of, pool_process

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[..., Any]

VIEWS = 12


def slow_labels(make_spec: MakeSpec, shards: Any) -> PipelineSpec:
    """A pipeline whose teacher takes 0.15 s for each of its 24 blocks."""
    model = {"name": "misbehaving:slow_model", "options": {"seconds": 0.15}}
    return make_spec(
        teacher={"model": model, "training": {"epochs": 1}},
        soft_labels={"views": VIEWS, "augmentation": {"shift": 1}, "shards": shards},
    )


def finished(client: PipelineClient, wait_until: WaitUntil, pipeline: str) -> PipelineStatus:
    status = wait_until(lambda: (found := client.status(pipeline)).finished and found, "the pipeline ends")
    assert status.state == "done", status.errors
    return status


def labels_of(store: Path, plan: Plan) -> dict[str, bytes]:
    folder = FolderStore(store).open(plan.trunk[2].ref).folder
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "manifest.json"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> dict[str, bytes]:
    """The labels that this process makes by itself."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "misbehaving.py").write_text(MISBEHAVING)
    plan, store = Plan.of(slow_labels(make_spec, "auto")), FolderStore(folder / "store")
    runtime = Runtime(torch.device("cpu"), plugins=("misbehaving",))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for stage in plan.trunk:
            StageRunner(store, runtime, lambda *_: None).run(stage)
    return labels_of(store.root, plan)


def record_of(status: PipelineStatus) -> SoftLabelsRecord:
    state = status.states[status.plan.trunk[2].key]
    assert state.record
    assert isinstance(state.record.record, SoftLabelsRecord)
    return state.record.record


def test_workers_that_share_labels_write_the_bytes_of_a_single_one(
    start_stack: Callable[..., LocalStack], make_spec: MakeSpec, wait_until: WaitUntil, alone: dict[str, bytes]
) -> None:
    stack = start_stack(workers=3)
    client = PipelineClient(stack.settings)

    status = finished(client, wait_until, client.submit(slow_labels(make_spec, 3)).id)

    assert record_of(status).blocks_of_helpers >= 2
    assert lines_of(stack, "distill.help_label", "succeeded", "blocks of soft labels")
    assert labels_of(stack.settings.folder, status.plan) == alone
    assert not list((stack.settings.folder / "partial").iterdir())


@pytest.mark.parametrize("victim", ["helper", "owner"])
def test_a_killed_member_of_the_crew_costs_nothing_but_its_block(
    start_stack: Callable[..., LocalStack],
    make_spec: MakeSpec,
    wait_until: WaitUntil,
    victim: str,
    alone: dict[str, bytes],
) -> None:
    stack = start_stack(workers=2)
    client = PipelineClient(stack.settings)
    pipeline = client.submit(slow_labels(make_spec, 2)).id
    labels = client.status(pipeline).plan.trunk[2]
    folder = stack.settings.folder / "partial" / labels.key / "soft_labels"
    wait_until(lambda: len(list(folder.glob("*/finished/*"))) >= 3, "three blocks are finished")
    wait_until(lambda: lines_of(stack, "distill.help_label", "received"), "the helper is at it")
    owner = client.status(pipeline).states[labels.key].worker.partition("@")[0]

    workers = [child for child in stack.children if child.name.startswith("worker")]
    (killed,) = (child for child in workers if (child.name == owner) == (victim == "owner"))
    os.kill(pool_process(killed).pid, signal.SIGKILL)
    status = finished(client, wait_until, pipeline)

    assert labels_of(stack.settings.folder, status.plan) == alone


def test_labels_that_take_no_time_are_not_shared(
    stack: LocalStack, client: PipelineClient, make_spec: MakeSpec, wait_until: WaitUntil
) -> None:
    status = finished(client, wait_until, client.submit(make_spec()).id)

    assert record_of(status).blocks_of_helpers == 0
    assert not lines_of(stack, "distill.help_label", "received")
