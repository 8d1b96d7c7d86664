"""Exports to ExecuTorch, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from distill_queue.shared.errors import store_errors
from distill_queue.shared.line import first_line, shortened
from distill_queue.worker.exports.deployable import example
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.problems import failing, root_of
from distill_queue.worker.exports.quiet import quiet

#: Characters of what the exporter says.
LONGEST_REASON = 400

#: The module that runs such files.
RUNTIME = "executorch_file"


def write(job: ExportJob, path: Path) -> None:
    """Write a student as an ExecuTorch file, which takes one sample at a time.

    Raises:
        StageFailed: the student does something that cannot be exported.

    """
    with quiet(), problems(job):
        content = lowered(torch.export.export(job.model, example(job.model.inputs, 1)), job.facts)
    save(content, path)


def lowered(program: Any, facts: FileFacts) -> bytes:
    """A traced student as the content of a file: XNNPACK does all that it can; a method returns each fact's text."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

    edge = to_edge_transform_and_lower(
        program,
        partitioner=[XnnpackPartitioner()],
        constant_methods={name.replace(".", "_"): text for name, text in sorted(facts.texts.items())},
    )
    content: bytes = edge.to_executorch(ExecutorchBackendConfig(emit_stacktrace=False)).buffer
    return content


def save(content: bytes, path: Path) -> None:
    """Write a file's content."""
    with store_errors(path):
        path.write_bytes(content)


@contextmanager
def problems(job: ExportJob) -> Iterator[None]:
    """Say what of a student cannot be exported, in its own words.

    Raises:
        StageFailed: some of it cannot be.

    """

    def words(error: Exception) -> str:
        reason = shortened(first_line(root_of(error)), LONGEST_REASON)
        return (
            f"{job.name} cannot be exported to ExecuTorch: {reason}: torch.export needs a forward that does the same "
            "for every sample, made of torch's own operations"
        )

    with failing(words):
        yield
