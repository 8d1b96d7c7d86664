"""ExecuTorch, in integers of 8 bits."""

from __future__ import annotations

from distill_queue.shared.spec.exports.format import ExportFormat

EXECUTORCH_INT8 = ExportFormat(
    name="executorch-int8",
    about="ExecuTorch with weights and activations of 8 bits: a third to a quarter of the bytes, not always faster",
    file="model-int8.pte",
    extra="executorch",
    libraries=("executorch", "torchao"),
    integers=True,
)
