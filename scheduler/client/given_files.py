"""Given files: a teacher's weights or soft labels, which a client puts into the store."""

from __future__ import annotations

import shutil
from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef, checkpoint_ref, label_file_ref
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.store import ArtifactStore


def store_given(store: ArtifactStore, spec: PipelineSpec, plan: Plan) -> None:
    """Put given weights and labels into the store, so that no worker ever opens a path from a spec."""
    paths = [Path(teacher.checkpoint) for teacher in spec.all_teachers if teacher.checkpoint is not None]
    if isinstance(spec.teacher, LabelTeacherSpec):
        paths.append(Path(spec.teacher.soft_labels))
    refs = [
        stage.inputs[role]
        for stage in (*plan.teachers, *plan.trunk)
        for role in ("checkpoint", "file")
        if role in stage.inputs
    ]
    for ref, path in zip(refs, paths, strict=True):
        _store_file(store, ref, path)


def _store_file(store: ArtifactStore, ref: ArtifactRef, path: Path) -> None:
    if store.find(ref):
        return
    is_weights = ref.kind == "checkpoint"
    with store.draft(ref) as draft:
        copy = draft / ("model.safetensors" if is_weights else f"labels{path.suffix}")
        try:
            shutil.copyfile(path, copy)  # Not its mode: others read the artifact.
        except FileNotFoundError:
            raise InvalidSpec(f"{path}: no such file any more") from None
        if (checkpoint_ref(copy) if is_weights else label_file_ref(copy)) != ref:
            raise InvalidSpec(f"{path} changed while it was read")
        provenance = Provenance(host="", device="", versions={})
        store.commit(ref, draft, stage=None, record=None, provenance=provenance, seconds=0.0)
