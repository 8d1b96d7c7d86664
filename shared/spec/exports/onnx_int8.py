"""ONNX, in integers of 8 bits."""

from __future__ import annotations

from distill_queue.shared.spec.exports.format import ExportFormat

ONNX_INT8 = ExportFormat(
    name="onnx-int8",
    about="ONNX with weights and activations of 8 bits: a third to a quarter of the bytes, not always faster",
    file="model-int8.onnx",
    extra="export",
    libraries=("onnx", "onnxruntime", "onnxscript"),
    integers=True,
)
