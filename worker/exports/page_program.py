"""Page programs: models of small images as operations that a report's page computes, with weights of 8 bits.

A page loads nothing, and a runtime for ONNX has megabytes. A program needs twenty kilobytes of JavaScript, which knows
the operations of small models (`page_operations`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import store_errors
from distill_queue.shared.results.page_program import (
    CHECKED_SAMPLES,
    MOST_BYTES,
    PAGE_PROGRAM,
    PageProgram,
    PageProgramRecord,
    is_small_image,
)
from distill_queue.worker.data.split import Split
from distill_queue.worker.exports import onnx_file
from distill_queue.worker.exports.deployable import Deployable
from distill_queue.worker.exports.page_operations import Array, Graph, Node, NotInPage, operation_of

#: The least share of samples that must get the model's class; and the most multiply-adds: half a second in a page.
LEAST_AGREEMENT, MOST_MULTIPLY_ADDS = 0.98, 100_000_000
#: Samples that the file answers at a time; the program's graph answers one.
BATCH = 250


def reason_against(model: Deployable, test: Split) -> str | None:
    """Why a model has no program whatever its operations are; None where it may have one."""
    shape = tuple(test.inputs.shape[1:])
    if not (test.stored_as_bytes and is_small_image(shape)):
        return "its samples are not images of one or three channels and at most 64 x 64 pixels, stored as bytes"
    parameters = sum(each.numel() for each in model.model.parameters())
    if parameters > MOST_BYTES:
        return f"it has {parameters:,} parameters, and a page takes {MOST_BYTES:,} bytes"
    return None


def write(model: Deployable, file: Path, test: Split, folder: Path) -> PageProgramRecord:
    """Write the program of a model, which is there as an ONNX file too, or why it has none."""
    reason = reason_against(model, test)
    if reason is not None:
        return put(PageProgram(reason=reason), folder)
    return put(program_of(file, test.read(slice(0, CHECKED_SAMPLES)).cpu().numpy()), folder)


def put(program: PageProgram, folder: Path) -> PageProgramRecord:
    """Write a program into a folder."""
    path = folder / PAGE_PROGRAM
    with store_errors(path):
        path.write_text(program.model_dump_json(), encoding="utf-8")
    return program.record


def program_of(file: Path, samples: npt.NDArray[np.uint8]) -> PageProgram:
    """The program of an ONNX file, compared with it on samples `[samples, channels, height, width]`."""
    import onnx

    with TemporaryDirectory() as scratch:
        plain, rounded = Path(scratch) / "plain.onnx", Path(scratch) / "rounded.onnx"
        _simplify(file, plain)
        proto = onnx.shape_inference.infer_shapes(onnx.load(plain))
        graph = _graph(proto)
        try:
            operations = _operations(proto, graph)
        except NotInPage as error:
            return PageProgram(reason=f"the page's code has no {error}")
        if (needed := sum(graph.multiply_adds)) > MOST_MULTIPLY_ADDS:
            return PageProgram(reason=f"a sample takes {needed:,} multiply-adds, and a page {MOST_MULTIPLY_ADDS:,}")
        _round(proto, graph)
        onnx.save(proto, rounded)
        agreement = _agreement(file, rounded, proto.graph.input[0].name, samples)
    if agreement < LEAST_AGREEMENT:
        return PageProgram(reason=f"weights of 8 bits change {1 - agreement:.1%} of its answers")
    program = PageProgram(
        samples=len(samples), agreement=agreement, shape=samples.shape[1:], operations=tuple(operations)
    )
    size_bytes = len(program.model_dump_json())
    return program if size_bytes <= MOST_BYTES else PageProgram(reason=f"it would have {size_bytes:,} bytes")


def _simplify(file: Path, path: Path) -> None:
    """Write a file's graph for a batch of one, with what is constant computed, and norms folded where they can be."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # Errors only.
    options.add_free_dimension_override_by_name("batch", 1)
    onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _graph(proto: Any) -> Graph:
    from onnx import numpy_helper

    graph = proto.graph
    constants = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    shapes = {each.name: _shape(each) for each in (*graph.input, *graph.value_info, *graph.output)}
    return Graph(constants, shapes)


def _shape(value: Any) -> tuple[int, ...] | None:
    """The shape of one sample, without the batch of one in front."""
    first, *others = [each.dim_value for each in value.type.tensor_type.shape.dim] or [0]
    return tuple(others) if first == 1 and all(others) else None


def _operations(proto: Any, graph: Graph) -> list[dict[str, Any]]:
    """The operations of a graph, whose tensors are numbered: 0 is the sample."""
    from onnx import helper

    names = {proto.graph.input[0].name: "0"}
    made = []
    for node in proto.graph.node:
        if node.output[0] in graph.constants:
            continue
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        operation = operation_of(Node(node.op_type, tuple(node.input), node.output[0], options, graph))
        names[node.output[0]] = str(len(names))
        operation["output"] = names[node.output[0]]
        if not all(name in names for name in operation["inputs"]):
            raise NotInPage(f"{node.op_type} of a constant")
        operation["inputs"] = [names[name] for name in operation["inputs"]]
        made.append(operation)
    return made


def _round(proto: Any, graph: Graph) -> None:
    """Put the weights of 8 bits into a graph."""
    from onnx import numpy_helper

    for each in proto.graph.initializer:
        if each.name in graph.rounded:
            rounded: Array = graph.rounded[each.name]
            each.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(rounded, np.float32), each.name))


def _agreement(file: Path, rounded: Path, name: str, samples: npt.NDArray[np.uint8]) -> float:
    """The share of samples that get the same class from a file and from its rounded graph."""
    given, single = onnx_file.File(file), onnx_file.File(rounded)
    of_file = [given.logits({name: each}).argmax(1) for each in _cut(samples, BATCH)]
    of_rounded = [single.logits({name: each}).argmax(1) for each in _cut(samples, 1)]
    return float((np.concatenate(of_file) == np.concatenate(of_rounded)).mean())


def _cut(samples: npt.NDArray[np.uint8], size: int) -> Iterator[npt.NDArray[np.uint8]]:
    return (samples[start : start + size] for start in range(0, math.ceil(len(samples) / size) * size, size))
