"""How a stage is run: by the file of its kind, with what the runner has for it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import RECIPES, StageRecipe, Training
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
CPU = Runtime(torch.device("cpu"))
#: Trainings are done by one file, in bundles.
WITH_A_FILE = {kind: recipe for kind, recipe in RECIPES.items() if not issubclass(recipe, Training)}


@pytest.mark.parametrize(("kind", "recipe"), WITH_A_FILE.items(), ids=WITH_A_FILE)
def test_the_file_of_a_kind_has_the_function_that_takes_its_recipe(kind: str, recipe: type[StageRecipe]) -> None:
    run = import_module(f"distill_queue.worker.stages.{kind}").run

    assert get_type_hints(run)["recipe"] is recipe
    assert get_type_hints(run)["context"] is StageContext


def test_the_evaluations_of_a_pipeline_run_the_teacher_over_the_test_set_once(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    runner = StageRunner(FolderStore(tmp_path), CPU, lambda *_: None)

    made = {stage.title: runner.run(stage) for stage in Plan.of(make_spec()).stages}

    folders = (made["train teacher"].folder, made["prepare digits"].folder)
    kept = runner.teacher_on_test.get((*folders, CPU.device), lambda: pytest.fail("computed again"))
    assert kept.shape == (359, 10)


def test_a_student_is_trained_on_the_samples_as_its_teachers_training_normalised_them(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    stages = {stage.title: stage for stage in Plan.of(make_spec()).stages}
    before = ("prepare digits", "train teacher", "soft labels")
    one, other = (StageRunner(FolderStore(tmp_path / name), CPU, lambda *_: None) for name in ("one", "other"))
    data, *_ = [runner.run(stages[title]) for runner in (one, other) for title in before]
    of_teacher = one.prepared.find((data.folder, CPU.device))
    anew = StageRunner(other.store, CPU, lambda *_: None)

    kept, read = one.run(stages["distill small"]), anew.run(stages["distill small"])

    assert of_teacher is not None
    assert one.prepared.find((data.folder, CPU.device)) is of_teacher
    assert kept.path("model.safetensors").read_bytes() == read.path("model.safetensors").read_bytes()


def test_another_data_set_takes_the_place_of_the_normalised_samples(make_spec: MakeSpec, tmp_path: Path) -> None:
    runner = StageRunner(FolderStore(tmp_path), CPU, lambda *_: None)
    folders = []
    for dataset in ({"name": "digits"}, {"name": "digits", "labelled": 500}):
        data, teacher = Plan.of(make_spec(dataset=dataset)).stages[:2]
        folders.append(runner.run(data).folder)
        runner.run(teacher)

    assert runner.prepared.find((folders[1], CPU.device)) is not None
    assert runner.prepared.find((folders[0], CPU.device)) is None


def test_normalised_samples_are_forgotten_by_a_training_that_sees_views(make_spec: MakeSpec, tmp_path: Path) -> None:
    runner = StageRunner(FolderStore(tmp_path), CPU, lambda *_: None)
    data, teacher = Plan.of(make_spec()).stages[:2]
    model = {"name": "mlp", "hidden": [8]}
    shifted = Plan.of(make_spec(teacher={"model": model, "training": {"epochs": 1, "augmentation": {"shift": 1}}}))

    folder = runner.run(data).folder
    runner.run(teacher)
    runner.run(shifted.stages[1])

    assert runner.prepared.find((folder, CPU.device)) is None
