"""`distill run` with small models: a student and its control side by side, and libraries loaded ahead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.spec.pipeline import PipelineSpec

WaitUntil = Callable[[Callable[[], Any], str], Any]


def test_a_worker_that_loads_ahead_has_torch_before_its_first_message(
    start_stack: Callable[..., LocalStack], make_spec: Callable[..., PipelineSpec], wait_until: WaitUntil
) -> None:
    stack = start_stack(workers=1, loads_ahead=True)
    worker = stack.children[1].pid

    wait_until(lambda: any("libtorch" in maps for maps in _maps_of_children(worker)), "torch is loaded")

    client = PipelineClient(stack.settings)
    pipeline = client.submit(make_spec())
    wait_until(lambda: pipeline.status.finished, "the pipeline is finished")
    assert client.results(pipeline).scores.students


def _maps_of_children(pid: int | None) -> list[str]:
    """The files that the children of a process have in memory, as Linux lists them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/maps").read_text() for child in children]
