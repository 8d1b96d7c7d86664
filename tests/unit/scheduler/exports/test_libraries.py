"""What a machine lacks for an export is said before any work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill_queue.scheduler.client import exported
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore


def test_a_plan_with_an_export_is_refused_where_a_library_is_missing(
    make_spec: Callable[..., PipelineSpec], store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}}
    plan = Plan.of(make_spec(students=[student | {"export": {"formats": ["onnx"]}}]))
    monkeypatch.setattr(exported, "find_spec", lambda name: None if name == "onnxruntime" else object())

    with pytest.raises(
        InvalidSettings,
        match=r"has an export, export small to onnx, which needs onnxruntime, not installed here: "
        r"pip install 'distill-queue\[export\]'",
    ):
        exported.require_exporters(plan, store)

    exported.require_exporters(Plan.of(make_spec(students=[student])), store)
