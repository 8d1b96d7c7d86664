"""A store whose disk is full or read-only for a while, under a real worker and a client."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import StoreUnavailable
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.app import create
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.task import endings
from tests.faulty_disk import build, look
from tests.small_disk import SmallDisk, can_mount, small_disk

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
#: How a disk is broken, and how it is mended.
TROUBLES = {
    "full": (SmallDisk.fill, SmallDisk.make_room, "No space left on device"),
    "read-only": (SmallDisk.set_read_only, SmallDisk.set_writable, "Read-only file system"),
}

needs_mount = pytest.mark.skipif(not can_mount(), reason="needs root, to mount")


@pytest.fixture
def disk(settings: Settings) -> Iterator[SmallDisk]:
    """The store's own disk."""
    with small_disk(settings.folder) as disk:
        yield disk


@pytest.fixture
def long_spec(make_spec: MakeSpec) -> PipelineSpec:
    """A pipeline whose teacher takes long enough to be disturbed."""
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 8, "batch_size": 32}}
    return make_spec(teacher=teacher)


@pytest.fixture
def undisturbed(long_spec: PipelineSpec, tmp_path: Path) -> dict[str, str]:
    """The hashes of the teacher's files, trained without any trouble."""
    runner = StageRunner(FolderStore(tmp_path / "undisturbed"), Runtime(torch.device("cpu")), lambda *_: None)
    _, teacher = [runner.run(stage) for stage in Plan.of(long_spec).trunk[:2]]
    return {name: entry.sha256 for name, entry in teacher.manifest.files.items()}


def retries(settings: Settings, pipeline: str) -> list[str]:
    """What a pipeline's log says of stages that are tried again."""
    lines = PipelineLogs(connect(settings), settings.history_seconds).read(pipeline)
    return [line.message for line in lines if "tries again in" in line.message]


@needs_mount
@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_in_a_checkpoint_that_outlasts_all_attempts_is_waited_for(
    disk: SmallDisk,
    settings: Settings,
    long_spec: PipelineSpec,
    undisturbed: dict[str, str],
    wait_until: WaitUntil,
    monkeypatch: pytest.MonkeyPatch,
    trouble: str,
) -> None:
    # Given a worker that tries again at once, in the midst of a training that writes many checkpoints,
    monkeypatch.setattr(endings, "LONGEST_WAIT_SECONDS", 0.1)
    settings = settings.model_copy(update={"checkpoint_seconds": 0.01})
    disturb, mend, words = TROUBLES[trouble]
    client = PipelineClient(settings)
    options = {"perform_ping_check": False, "shutdown_timeout": 30, "loglevel": "WARNING"}
    with start_worker(create(settings), pool="solo", **options):
        pipeline = client.submit(long_spec).id
        teacher = client.status(pipeline).plan.trunk[1]
        partial = settings.folder / "partial" / teacher.key
        wait_until(lambda: list(partial.glob("*.safetensors")), "there is a checkpoint")

        # when the disk is in trouble for longer than three attempts take,
        disturb(disk)
        wait_until(lambda: len(retries(settings, pipeline)) > settings.max_attempts, "it was tried often")
        waiting = client.status(pipeline).states[teacher.key]
        mend(disk)
        *_, status = client.watch(pipeline)
    gc.collect()

    # then the stage says so meanwhile, and ends with the same bytes.
    assert words in waiting.progress
    assert all(f"store: {settings.folder}/" in line for line in retries(settings, pipeline))
    assert status.state == "done", status.errors
    found = FolderStore(settings.folder).open(ArtifactRef(kind=teacher.kind, key=teacher.key))
    assert {name: entry.sha256 for name, entry in found.manifest.files.items()} == undisturbed
    assert not list((settings.folder / "partial").iterdir())


@needs_mount
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_submission_to_a_disk_in_trouble_leaves_nothing(
    disk: SmallDisk, settings: Settings, make_spec: MakeSpec, trouble: str
) -> None:
    client = PipelineClient(settings)
    before = client.submit(make_spec()).id
    disturb, mend, words = TROUBLES[trouble]

    disturb(disk)
    with pytest.raises(StoreUnavailable, match=words):
        client.submit(make_spec())
    mend(disk)

    assert client.ids() == [before]
    assert [path.stem for path in (settings.folder / "pipelines").iterdir()] == [before]


@pytest.mark.skipif(which("cc") is None, reason="needs a C compiler")
def test_whatever_call_of_a_stage_fails_it_is_the_store_that_does_not_work(tmp_path: Path) -> None:
    looked = look(build(tmp_path), points=2, seed=0)

    assert looked.returncode == 0, looked.stdout + looked.stderr
