"""Bundles: the stages that one task does together, as trainings that can be stacked."""

from __future__ import annotations

from collections.abc import Iterator

from distill_queue.shared.plan.recipes import Distill, TrainControl
from distill_queue.shared.plan.stage import Bundle, Stage
from distill_queue.shared.spec.pipeline import PipelineSpec

#: Most stages that one task does together.
LARGEST_BUNDLE = 64
#: Fewest trainings that are stacked: two take as long together as one after the other (measured on 2 cores).
SMALLEST_BUNDLE = 3


def bundles(models: list[Stage], spec: PipelineSpec) -> Iterator[Bundle]:
    """Yield the trainings in the spec's order, those that can be stacked as one bundle."""
    groups: dict[str, list[Stage]] = {}
    for model in models:
        groups.setdefault(_shape_of(model, spec), []).append(model)
    for group in groups.values():
        if len(group) < SMALLEST_BUNDLE:
            yield from ((model,) for model in group)
            continue
        yield from cut(group)


def cut(stages: list[Stage]) -> Iterator[Bundle]:
    """Divide stages into bundles of at most `LARGEST_BUNDLE`."""
    for start in range(0, len(stages), LARGEST_BUNDLE):
        yield tuple(stages[start : start + LARGEST_BUNDLE])


def _shape_of(model: Stage, spec: PipelineSpec) -> str:
    """A text that is the same for trainings that can be stacked; it pays for matrix products, not for convolutions."""
    recipe = model.recipe
    if not isinstance(recipe, Distill | TrainControl) or spec.fuse == "off" or not recipe.model.stackable:
        return model.key
    # What goes on to the bit is trained alone, before and after.
    if recipe.training.keep_state or (recipe.start and recipe.start.mode == "state"):
        return model.key
    # With patience, each would end at an epoch of its own; in float16, each has a loss scale of its own.
    if recipe.training.patience is not None or recipe.training.precision == "float16":
        return model.key
    apart = {"seed", "learning_rate", "label_smoothing"}
    return recipe.model.model_dump_json() + recipe.training.model_dump_json(exclude=apart)
