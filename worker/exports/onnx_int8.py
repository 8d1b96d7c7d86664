"""Exports to ONNX in integers of 8 bits: quantised after training, by the ranges of training samples."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill_queue.shared.errors import DistillError
from distill_queue.shared.line import first_line, shortened
from distill_queue.worker.exports import onnx as onnx_float
from distill_queue.worker.exports.deployable import OUTPUT, RawInputs
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.problems import LONGEST_REASON, failing
from distill_queue.worker.exports.quiet import quiet

RUNTIME = onnx_float.RUNTIME
#: Operators that have weights.
PRODUCTS = ["Conv", "ConvTranspose", "Gemm", "MatMul"]
#: What is computed in integers: products, what runtimes compute together with one, and tables of embeddings, of which
#: only the rows that are looked up become numbers again. All else stays in float32: rounded sums and masks of attention
#: took a transformer from 79 % to 30 % (a mask's minus infinity has no range), and rounded batch norms saved nothing.
QUANTISED = [*PRODUCTS, "Relu", "Clip", "Gather"]
#: The largest share of the weights that a head in float32 may have: with it, a file has a third of the bytes.
LARGEST_HEAD = 1 / 9


def write(job: ExportJob, path: Path) -> None:
    """Write a student as an ONNX file of integers: weights per channel, activations per tensor, its head in float.

    A head that has most of the weights becomes integers, too; its answers do not, in any file.

    Raises:
        StageFailed: the student does something that cannot be exported.

    """
    onnx_float.save(quantised(onnx_float.proto_of(job), job.name, job.calibration()), path)


def quantised(proto: Any, name: str, samples: Iterator[RawInputs]) -> Any:
    """ONNX's model with integers of 8 bits in place of the numbers of its weights and products.

    Args:
        proto: the model in float32.
        name: the export's, as messages call it.
        samples: batches by whose values the ranges are found.

    Raises:
        StageFailed: the library cannot do so.

    """
    made = _rounded(proto, name, samples)
    _keep_logits(made.graph)
    made.graph.ClearField("value_info")
    made.ClearField("metadata_props")
    made.metadata_props.extend(proto.metadata_props)
    return made


def head_of(graph: Any) -> list[str]:
    """The names of the nodes that make the logits: the last product, and what follows it."""
    made_by = {output: node for node in graph.node for output in node.output}
    names: dict[str, None] = {}
    wanted = [OUTPUT]
    while wanted:
        node = made_by.get(wanted.pop())
        if node is None or node.name in names:
            continue
        names[node.name] = None
        if node.op_type not in PRODUCTS:
            wanted.extend(node.input)
    return list(names)


def left_in_float(graph: Any) -> list[str]:
    """The names of the nodes that stay in float32: the head, unless it has most of the weights."""
    head = head_of(graph)
    numbers = {each.name: prod(each.dims) for each in graph.initializer}
    of_head = {name for node in graph.node if node.name in head for name in node.input if name in numbers}
    share = sum(numbers[name] for name in of_head) / max(1, sum(numbers.values()))
    return head if share <= LARGEST_HEAD else []


def _rounded(proto: Any, name: str, samples: Iterator[RawInputs]) -> Any:
    """What onnxruntime makes of a model."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    with TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        onnx_float.save(proto, source)
        with quiet(), failing(lambda error: _words(name, error), DistillError, OSError):
            quantize_static(
                source,
                target,
                _Calibration(samples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Entropy gave the same bytes, and percentiles cut off what counts.
                calibrate_method=CalibrationMethod.MinMax,
                op_types_to_quantize=QUANTISED,
                nodes_to_exclude=left_in_float(proto.graph),
            )
        return onnx.load(target)


def _keep_logits(graph: Any) -> None:
    """Take the rounding of the logits out, where their product became one of integers: 256 values would be too few."""
    made_by = {output: node for node in graph.node for output in node.output}
    back = made_by[OUTPUT]
    if back.op_type != "DequantizeLinear" or (rounding := made_by.get(back.input[0])) is None:
        return
    node = made_by[rounding.input[0]]
    others = [each for each in graph.node if rounding.input[0] in each.input and each is not rounding]
    if rounding.op_type != "QuantizeLinear" or others:
        return
    node.output[list(node.output).index(rounding.input[0])] = OUTPUT
    graph.node.remove(back)
    graph.node.remove(rounding)


class _Calibration:
    """Batches of samples as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterator[RawInputs]) -> None:
        self._batches = batches

    def get_next(self) -> RawInputs | None:
        """The next batch; None at the end."""
        return next(self._batches, None)


def _words(name: str, error: Exception) -> str:
    """What the library could not do, in a sentence."""
    reason = shortened(first_line(error), LONGEST_REASON)
    return f"{name} cannot be exported to integers of 8 bits: {reason}: export.formats: onnx is of float32"
