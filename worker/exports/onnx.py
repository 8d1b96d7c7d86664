"""Exports to ONNX, in float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from distill_queue.shared.errors import store_errors
from distill_queue.worker.exports.capture import captured
from distill_queue.worker.exports.deployable import OUTPUT
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.problems import problems
from distill_queue.worker.exports.quiet import quiet

#: The operators' version: what onnxruntime 1.17 (2024) and later know.
OPSET = 20

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
    program = captured(job)
    with quiet(), problems(job, program):
        made = torch.onnx.export(
            program,
            input_names=[each.name for each in job.model.inputs],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    proto = made.model_proto  # type: ignore[union-attr]
    _strip(proto)
    _name_the_batch(proto.graph)
    for name, text in sorted(job.facts.texts.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, text
    return proto


def save(proto: Any, path: Path) -> None:
    """Write ONNX's model, always as the same bytes."""
    with store_errors(path):
        path.write_bytes(proto.SerializeToString(deterministic=True))


def _name_the_batch(graph: Any) -> None:
    """Call the one size that is open "batch", which torch numbers."""
    for value in (*graph.input, *graph.output):
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param:
                size.dim_param = "batch"


def _strip(proto: Any) -> None:
    """Take out what the exporter noted: lines of source code with their paths, and texts about nodes."""
    _clear(proto)
    for graph in _graphs(proto.graph):
        for each in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
            _clear(each)
        graph.ClearField("value_info")
    for function in proto.functions:
        _clear(function)
        function.ClearField("value_info")
        for graph in _graphs(function):
            for node in graph.node:
                _clear(node)
    proto.graph.name = "student"


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those within its nodes: the bodies of loops and the branches of conditions."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _clear(part: Any) -> None:
    part.ClearField("doc_string")
    part.ClearField("metadata_props")
