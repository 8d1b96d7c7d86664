"""Demands: what a pipeline's stages ask of its data, as far as only a look at the data can tell that it is there."""

from __future__ import annotations

from collections.abc import Iterator

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import ChooseStudent, Labels, PrepareData, Training, TrainTeacher
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.augmentation import AugmentationSpec, SampleFacts
from distill_queue.shared.spec.training import unknown_classes


def unmet(plan: Plan, data: DatasetRecord) -> str:
    """Why some stage of a plan cannot be computed on its data, in the words of a spec; empty where all can."""
    return next(_unmet(plan, data), "")


def without_views(place: str, augmentation: AugmentationSpec, data: DatasetRecord) -> str:
    """Why samples of a data set have no such views, in the words of a spec; empty where they have.

    Args:
        place: where in a spec the augmentation stands.
        augmentation: makes the views.
        data: the data set.

    """
    found = augmentation.misfit(SampleFacts(data.shape, tuple(data.inputs), data.tokens))
    if found is None:
        return ""
    part, words = found
    return f"{place}.augmentation{part and f'.{part}'}: {words}"


def _unmet(plan: Plan, data: DatasetRecord) -> Iterator[str]:
    prepare = plan.trunk[0].recipe
    for stage in plan.stages:
        if isinstance(prepare, PrepareData) and not data.validation_samples and _chooses(stage):
            yield f"'{stage.title}' needs held-out samples, and {prepare.dataset.without_held_out}"
        for place, augmentation in _augmented(stage):
            if text := without_views(place, augmentation, data):
                yield text
        if isinstance(stage.recipe, Training) and isinstance(weights := stage.recipe.training.class_weights, dict):
            yield from filter(None, [unknown_classes(weights, data.class_names)])


def _chooses(stage: Stage) -> bool:
    recipe = stage.recipe
    return isinstance(recipe, ChooseStudent) or (isinstance(recipe, Training) and recipe.training.chooses)


def _augmented(stage: Stage) -> Iterator[tuple[str, AugmentationSpec]]:
    """The part of a spec that says which views a stage sees, and these."""
    if isinstance(stage.recipe, TrainTeacher):
        yield "teacher.training", stage.recipe.training.augmentation
    elif isinstance(stage.recipe, Labels):
        yield "soft_labels", stage.recipe.augmentation
