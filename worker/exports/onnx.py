"""Exports to ONNX, in float32."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from distill_queue.shared.errors import StageFailed, store_errors
from distill_queue.shared.line import first_line, shortened
from distill_queue.worker.exports.deployable import OUTPUT, example
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine import memory

#: The operators' version: what onnxruntime 1.17 (2024) and later know.
OPSET = 20
#: Samples of the batch that the model is traced with: with one, a batch's size would be taken for a constant.
TRACED_SAMPLES = 2
#: Characters of what the exporter says.
LONGEST_REASON = 400

#: The module that runs such files.
RUNTIME = "onnx_file"


def write(job: ExportJob, path: Path) -> None:
    """Write a student as an ONNX file.

    Raises:
        StageFailed: the student does something that cannot be exported.

    """
    save(proto_of(job), path)


def proto_of(job: ExportJob) -> Any:
    """The student as ONNX's model, without anything that tells where or when it was made.

    Raises:
        StageFailed: as for `write`.

    """
    inputs = job.model.inputs
    batch = torch.export.Dim("batch", min=1)
    with _quiet(), _problems(job):
        program = torch.onnx.export(
            job.model,
            example(inputs, TRACED_SAMPLES),
            input_names=[each.name for each in inputs],
            output_names=[OUTPUT],
            dynamic_shapes=(tuple({0: batch} for _ in inputs),),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = program.model_proto  # type: ignore[union-attr]
    _strip(proto)
    for name, text in sorted(job.facts.texts.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, text
    return proto


def save(proto: Any, path: Path) -> None:
    """Write ONNX's model, always as the same bytes."""
    with store_errors(path):
        path.write_bytes(proto.SerializeToString(deterministic=True))


def _strip(proto: Any) -> None:
    """Take out what the exporter noted: lines of source code with their paths, and texts about nodes."""
    graph = proto.graph
    for each in (proto, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        each.ClearField("doc_string")
        each.ClearField("metadata_props")
    for function in proto.functions:
        for each in (function, *function.node, *function.value_info):
            each.ClearField("doc_string")
            each.ClearField("metadata_props")
    graph.name = "student"
    graph.ClearField("value_info")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks for its developers off the log."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def _problems(job: ExportJob) -> Iterator[None]:
    """Say what of a student cannot be exported, in its own words.

    Raises:
        StageFailed: some of it cannot be.

    """
    try:
        yield
    except Exception as error:  # The exporter raises any kind.
        if memory.is_short(error):
            raise
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = shortened(first_line(cause), LONGEST_REASON)
        raise StageFailed(
            f"{job.name} cannot be exported to ONNX: {reason}: torch.export needs a forward that does the same for "
            "every batch, made of torch's own operations"
        ) from error
