"""Where teacher and student disagree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sections import disagreement, reproduction
from distill_queue.shared.report.sentences import headlines
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.stages.runner import StageRunner
from tests.conftest import small_spec
from tests.unit.shared.report.conftest import CPU, run


def test_a_teacher_that_is_known_by_its_labels_only_disagrees_with_nobody(tmp_path: Path) -> None:
    prepared = StageRunner(FolderStore(tmp_path / "store"), CPU, lambda *_: None).run(
        Plan.of(PipelineSpec.model_validate(small_spec())).trunk[0]
    )
    targets = np.load(prepared.path("train_targets.npy"))
    np.savez(tmp_path / "labels.npz", logits=np.eye(10, dtype=np.float32)[targets] * 9)
    spec = PipelineSpec.model_validate(
        small_spec(teacher={"soft_labels": str(tmp_path / "labels.npz")}, evaluation={"control": False})
    )
    store, plan = FolderStore(tmp_path / "store"), Plan.of(spec)
    ref = plan.trunk[1].inputs["file"]
    with store.draft(ref) as draft:
        shutil.copyfile(tmp_path / "labels.npz", draft / "labels.npz")
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)
    status, _ = run(spec, tmp_path / "store")

    facts = ReportFacts.read(status, store)
    of_disagreement, of_reproduction = (each.section(facts) for each in (disagreement, reproduction))

    assert of_disagreement.text == "There are only labels of the teacher: it has not seen the test samples."
    place = store.folder(ref).relative_to(store.root)
    assert of_reproduction.notes[0].endswith(f"copy it from {place} in the store, with the suffix that it has there.")
    assert headlines(facts.scores)[0].endswith("it has no control, so what the teacher brought is not known.")
