"""Exports to ONNX in integers of 8 bits: quantised after training, by the ranges of training samples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from distill_queue.worker.exports import onnx as onnx_float
from distill_queue.worker.exports.deployable import OUTPUT, RawInputs
from distill_queue.worker.exports.job import ExportJob

RUNTIME = onnx_float.RUNTIME


def write(job: ExportJob, path: Path) -> None:
    """Write a student as an ONNX file of integers: weights per channel, activations per tensor, its head in float.

    Raises:
        StageFailed: the student does something that cannot be exported.

    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    proto = onnx_float.proto_of(job)
    with TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float.onnx", Path(scratch) / "int8.onnx"
        onnx_float.save(proto, source)
        level = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            quantize_static(
                source,
                target,
                _Calibration(job.calibration()),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                nodes_to_exclude=head_of(proto),
            )
        finally:
            logging.disable(level)
        quantised = onnx.load(target)
    quantised.ClearField("metadata_props")
    quantised.metadata_props.extend(proto.metadata_props)
    onnx_float.save(quantised, path)


def head_of(proto: Any) -> list[str]:
    """The names of the nodes that make the logits: the last product, and what follows it."""
    made_by = {output: node for node in proto.graph.node for output in node.output}
    names, wanted = [], [OUTPUT]
    while wanted:
        node = made_by.get(wanted.pop())
        if node is None:
            continue
        names.append(node.name)
        if node.op_type not in ("Gemm", "MatMul", "Conv"):
            wanted.extend(node.input)
    return names


class _Calibration:
    """Batches of samples as onnxruntime's calibration asks for them."""

    def __init__(self, batches: Iterator[RawInputs]) -> None:
        self._batches = batches

    def get_next(self) -> RawInputs | None:
        """The next batch; None at the end."""
        return next(self._batches, None)
