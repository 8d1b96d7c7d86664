"""Formats: which versions can compute a pipeline."""

from __future__ import annotations

from collections.abc import Iterable

from distill_queue.shared.plan.recipes import (
    Distill,
    Export,
    JoinTeachers,
    Labels,
    LoadTeacher,
    PrepareData,
    Recipe,
    StageRecipe,
    TrainControl,
    Training,
    WritePageProgram,
    WriteReport,
    models_of,
)
from distill_queue.shared.plan.stage import EARLIER_FORMAT, STAGE_FORMAT
from distill_queue.shared.spec.sources.named import NamedDatasetSpec


def format_of(recipes: Iterable[Recipe]) -> int:
    """The format of a pipeline's messages: the earlier one, unless a recipe says what earlier versions do not know.

    It is one for all of its stages, since a worker also reads the recipes of what a stage is made from.
    """
    return STAGE_FORMAT if any(map(_is_new, recipes)) else EARLIER_FORMAT


def _is_new(recipe: StageRecipe) -> bool:
    """Whether only versions that know format 6 read a recipe."""
    if any(model.is_new for model in models_of(recipe)):
        return True
    if isinstance(recipe, Training) and (recipe.start is not None or recipe.training.is_new):
        return True
    match recipe:
        case PrepareData(dataset=dataset):
            options = dataset.normalise, dataset.own_validation
            return not isinstance(dataset, NamedDatasetSpec) or options != ("data", "refuse")
        case Labels(augmentation=augmentation):
            return augmentation.is_new
        case Distill(transfer=transfer, distillation=distillation, online=online):
            return online or distillation.changes or not transfer.changes_nothing
        case TrainControl(transfer=transfer, augmentation=augmentation, views=views):
            return views is None or augmentation.is_new or not transfer.changes_nothing
        case LoadTeacher(normalise=normalise, classes=classes):
            return bool(classes) or not isinstance(normalise, str)
        case JoinTeachers(seeds=seeds, normalise=normalise, classes=classes):
            return bool(seeds or classes) or any(not isinstance(each, str) for each in normalise)
        case Export() | WritePageProgram():
            return True
        case WriteReport(students=students, budget=budget):
            return budget is not None or any(runs.teacher is not None for runs in students)
    return False
