"""Given files: a teacher's weights or soft labels, which a client puts into the store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.weights.reading import GivenWeights
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef, checkpoint_ref, label_file_ref, weights_ref
from distill_queue.shared.spec.given_files import start_weights, weights_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, TeacherSpec
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.store import ArtifactStore


def store_given(store: ArtifactStore, spec: PipelineSpec, plan: Plan) -> None:
    """Put given weights and labels into the store, so that no worker ever opens a path from a spec."""
    teachers = [teacher for teacher in spec.all_teachers if teacher.checkpoint is not None]
    given: list[GivenWeights | Path] = [weights_of(teacher, spec.dataset) for teacher in teachers]
    if isinstance(spec.teacher, LabelTeacherSpec):
        given.append(Path(spec.teacher.soft_labels))
    refs = [
        stage.inputs[role]
        for stage in (*plan.teachers, *plan.trunk)
        for role in ("checkpoint", "file")
        if role in stage.inputs
    ]
    found = dict(zip(refs, given, strict=True)) | {weights_ref(each): each for each in _starts(spec)}
    for ref, each in found.items():
        if not store.find(ref):
            _store(store, ref, each)


def _starts(spec: PipelineSpec) -> Iterator[GivenWeights]:
    """The weights that trainings of a spec start from, each once."""
    read: set[str] = set()
    parts: list[TeacherSpec | StudentSpec] = [*spec.all_teachers, *(student for _, student in spec.candidates)]
    for part in parts:
        if part.weights is not None and (asked := f"{part.model!r} {part.weights!r}") not in read:
            read.add(asked)
            yield start_weights(part.model, part.weights, spec.dataset)


def _store(store: ArtifactStore, ref: ArtifactRef, given: GivenWeights | Path) -> None:
    with store.draft(ref) as draft:
        if isinstance(given, Path):
            copy, path = draft / f"labels{given.suffix}", given
            try:
                shutil.copyfile(path, copy)  # Not its mode: others read the artifact.
            except FileNotFoundError:
                raise InvalidSpec(f"{path}: no such file any more") from None
            changed = label_file_ref(copy) != ref
        else:
            copy, path = draft / "model.safetensors", given.path
            with copy.open("wb") as file:
                for piece in given.pieces():
                    file.write(piece)
            changed = checkpoint_ref(copy) != ref
        if changed:
            raise InvalidSpec(f"{path} changed while it was read")
        provenance = Provenance(host="", device="", versions={})
        store.commit(ref, draft, stage=None, record=None, provenance=provenance, seconds=0.0)
