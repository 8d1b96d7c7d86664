"""Recovery: a worker's process that is killed in the middle of trainings, and the bytes that come of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.gpu.pipelines import LOOK_SECONDS, finish, spec, store, workers
from benchmarks.gpu.section import Part, Section, Setting
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

EPOCHS, SMALL_EPOCHS = 100, 40
#: Share of a training after which it is killed.
KILLED_AT = 0.15
#: Seconds that a training is waited for.
PATIENCE_SECONDS = 40.0
#: Kinds of stages whose bytes must be the same.
KINDS = ("train_teacher", "soft_labels", "distill", "train_control")


def measure(setting: Setting) -> Iterator[Part]:
    """Kill the process that trains the teacher, and the one that trains the student; then do all again undisturbed."""
    asked = spec(setting, epochs=SMALL_EPOCHS if setting.dry else EPOCHS)
    plan = Plan.of(asked)
    compared = [stage for stage in plan.stages if stage.kind in KINDS]
    to_kill = [stage for stage in compared if stage.kind in ("train_teacher", "distill")]
    with workers(setting, "killed", 1, checkpoint_seconds=0.2) as (stack, client):
        pipeline = client.submit(asked).id
        killed = [stage.kind for stage in to_kill if _killed(stack, client, pipeline, stage)]
        finish(stack, client, [pipeline])
        log = Path(stack.settings.folder / "logs" / "worker-1.log").read_text("utf-8", "replace")
        disturbed = FolderStore(stack.settings.folder)
    undisturbed = FolderStore(store(setting, "undisturbed"))
    runner = StageRunner(
        undisturbed, Runtime(setting.device, downloads=undisturbed.root / "downloads"), lambda *_: None
    )
    for stage in plan.stages:
        if stage.kind in ("prepare_data", *KINDS):
            runner.run(stage)
    for stage in compared:
        bytes_are = [
            {name: entry.sha256 for name, entry in each.open(stage.ref).manifest.files.items()}
            for each in (disturbed, undisturbed)
        ]
        yield {
            "stage": stage.title,
            "killed in it": "yes" if stage.kind in killed else "no",
            "files": len(bytes_are[0]),
            "the same bytes": "yes" if bytes_are[0] == bytes_are[1] else "no",
        }
    went_on = log.count("goes on from step")
    yield f"{len(killed)} processes were killed (SIGKILL); trainings went on from a checkpoint {went_on} times"


def _killed(stack: LocalStack, client: PipelineClient, pipeline: str, stage: Stage) -> bool:
    """Kill the process that trains a stage in its middle; False if it was too fast for that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    (worker,) = (child for child in stack.children if child.name.startswith("worker"))
    while time.monotonic() < deadline:
        state = client.status(pipeline).states[stage.key]
        if state.state == "done":
            return False
        if state.state == "running" and (state.share or 0.0) > KILLED_AT:
            for process in psutil.Process(worker.pid).children():
                process.kill()
            return True
        time.sleep(LOOK_SECONDS)
    return False


SECTION = Section("recovery", "The same bytes after kill -9", 110.0, measure)
