"""ExecuTorch, in float32."""

from __future__ import annotations

from distill_queue.shared.spec.exports.format import ExportFormat

EXECUTORCH = ExportFormat(
    name="executorch",
    about="ExecuTorch in float32 for XNNPACK, for apps on Android and iOS: one sample at a time",
    file="model.pte",
    extra="executorch",
    libraries=("executorch",),
)
