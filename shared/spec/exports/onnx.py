"""ONNX, in float32."""

from __future__ import annotations

from distill_queue.shared.spec.exports.format import ExportFormat

ONNX = ExportFormat(
    name="onnx",
    about="ONNX in float32, for onnxruntime on servers, in browsers and on phones",
    file="model.onnx",
    extra="export",
    libraries=("onnx", "onnxruntime", "onnxscript"),
    has_page_program=True,
)
