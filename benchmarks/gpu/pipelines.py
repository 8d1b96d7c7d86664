"""Pipelines: small ones on the digits, run by real workers on the device; several sections are made of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.gpu.section import Setting
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

LOOK_SECONDS = 0.05


def spec(setting: Setting, *, epochs: int, seed: int = 0, device: str = "", **training: Any) -> PipelineSpec:
    """The main job with other numbers of epochs and another seed."""
    trained = {
        "epochs": epochs,
        "batch_size": 64 if setting.dry else 256,
        "schedule": "constant",
        "seed": seed,
    } | training
    return PipelineSpec.model_validate(
        {
            "name": f"digits-{seed}",
            "device": device or setting.queue,
            "dataset": {"name": "mnist"},
            "teacher": {"model": {"name": "mlp", "hidden": [512, 256]}, "training": trained},
            "students": [
                {
                    "name": "small",
                    "model": {"name": "mlp", "hidden": [128]},
                    "distillation": {"temperature": 5, "alpha": 0.9},
                    "training": trained,
                }
            ],
        }
    )


def store(setting: Setting, name: str) -> Path:
    """An empty store that finds the digits."""
    (folder := setting.folder / name).mkdir()
    (folder / "downloads").symlink_to(setting.mnist.absolute())
    return folder


@contextmanager
def workers(setting: Setting, name: str, count: int, **settings: Any) -> Iterator[tuple[LocalStack, PipelineClient]]:
    """Some workers with a new store."""
    with LocalStack(Settings(store=str(store(setting, name)), **settings), workers=count, idle=True) as stack:
        yield stack, PipelineClient(stack.settings)


def finish(stack: LocalStack, client: PipelineClient, ids: list[str]) -> None:
    """Wait until some pipelines are done.

    Raises:
        RuntimeError: one failed; the message says why.

    """
    waiting = list(ids)
    while waiting:
        stack.tend()
        status = client.status(waiting[0])
        if status.state == "done":
            waiting.pop(0)
        elif status.state in ("failed", "cancelled"):
            raise RuntimeError(next((each.error for each in status.states.values() if each.error), str(status.state)))
        else:
            time.sleep(LOOK_SECONDS)
