"""Online teachers: a teacher that answers in each step teaches what its stored soft labels would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import JoinTeachers
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
EPOCHS = 3
TRAINING = {"epochs": EPOCHS, "precision": "float32"}
SHIFTED = {"shift": 2}


def student(name: str = "small", **others: Any) -> dict[str, Any]:
    return {"name": name, "model": {"name": "mlp", "hidden": [8]}, "training": TRAINING} | others


def run_all(spec: PipelineSpec, store: FolderStore) -> dict[str, Artifact]:
    runner = StageRunner(store, Runtime(torch.device("cpu")), lambda *_: None)
    return {stage.title: runner.run(stage) for stage in Plan.of(spec).stages}


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path("model.safetensors"))


def test_an_online_teacher_teaches_what_labels_of_a_view_for_each_epoch_teach(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    store = FolderStore(tmp_path)
    stored = {"views": EPOCHS, "augmentation": SHIFTED, "dtype": "float32"}

    cached = run_all(make_spec(students=[student()], soft_labels=stored), store)
    online = run_all(make_spec(students=[student()], soft_labels={"mode": "online", "augmentation": SHIFTED}), store)

    assert "soft labels" not in online
    control, same = weights(cached["train small/control"]), weights(online["train small/control"])
    assert all(torch.equal(tensor, same[name]) for name, tensor in control.items())
    learned, also = weights(cached["distill small"]), weights(online["distill small"])
    for name, tensor in learned.items():  # Batches of other sizes round otherwise.
        torch.testing.assert_close(also[name], tensor, atol=1e-4, rtol=1e-3)


def test_online_students_are_stacked_without_their_controls(make_spec: MakeSpec, tmp_path: Path) -> None:
    one, many = (make_spec(students=[student(seeds=seeds)], soft_labels={"mode": "online"}) for seeds in (1, 3))
    kinds = [[stage.kind for stage in bundle] for bundle in Plan.of(many).bundles]
    assert ["distill"] * 3 in kinds
    assert ["train_control"] * 3 in kinds

    alone = run_all(one, FolderStore(tmp_path))
    runner = StageRunner(FolderStore(tmp_path / "stacked"), Runtime(torch.device("cpu")), lambda *_: None)
    data, teacher = Plan.of(many).trunk
    runner.run(data)
    runner.run(teacher)
    students = next(bundle for bundle in Plan.of(many).bundles if bundle[0].kind == "distill")
    stacked = runner.train(students, students)

    learned = stacked[students[0].key]
    assert isinstance(learned, Artifact)
    for name, tensor in weights(alone["distill small"]).items():
        torch.testing.assert_close(weights(learned)[name], tensor, atol=1e-4, rtol=1e-3)


def test_several_teachers_and_assistants_answer_online_as_well(make_spec: MakeSpec, tmp_path: Path) -> None:
    teachers = [{"model": {"name": "mlp", "hidden": [width]}, "training": {"epochs": 1}} for width in (8, 9)]
    spec = make_spec(
        teacher=None,
        teachers=teachers,
        soft_labels={"mode": "online"},
        students=[student("medium", seeds=2), student("small", teacher="medium")],
        evaluation={"control": False},
    )

    done = run_all(spec, FolderStore(tmp_path))

    assert not [title for title in done if title.startswith("soft labels")]
    plan = Plan.of(spec)
    small = next(stage for stage in plan.stages if stage.title == "distill small")
    taught_by = next(stage for stage in plan.stages if stage.ref == small.inputs["teacher"])
    assert isinstance(taught_by.recipe, JoinTeachers)
    assert taught_by.title == "join medium"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"soft_labels": {"mode": "online", "views": 4, "augmentation": SHIFTED}}, "remove 'views'"),
        ({"soft_labels": {"mode": "online", "dtype": "float32"}}, "remove 'dtype'"),
        ({"soft_labels": {"mode": "online", "top_k": 2}}, "remove 'top_k'"),
        ({"soft_labels": {"mode": "online", "shards": 2}}, "remove 'shards'"),
        ({"soft_labels": {"mode": "online"}, "teacher": {"soft_labels": "a.npz"}}, "cannot answer online"),
    ],
)
def test_what_is_said_of_stored_labels_is_refused(make_spec: MakeSpec, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_spec(**changes)
