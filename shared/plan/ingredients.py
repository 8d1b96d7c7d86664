"""The ingredients of a stage's key: what its result depends on, of its recipe and of the code that follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.plan.recipes import RECIPES, PrepareData, Recipe, Training
from distill_queue.shared.spec.part import SpecPart

#: The versions of all kinds of artifacts: of what stages make, and of given files.
RECIPE_VERSIONS = {kind: recipe.version for kind, recipe in RECIPES.items()} | {"checkpoint": 1, "label_file": 1}


def revisions(recipe: Recipe) -> list[str]:
    """The changes of a kind's code that concern this recipe: their names are part of its key, and of no other's.

    A change that concerns all recipes of a kind raises the kind's version.
    """
    return [name for name, concerns in _REVISIONS.items() if concerns(recipe)]


#: Names of changes that concern some recipes only, and which.
_REVISIONS: dict[str, Callable[[Recipe], bool]] = {
    # A constant channel is divided by its value, no more by a millionth. Ours have none.
    "constant channels": lambda recipe: isinstance(recipe, PrepareData) and is_reference(recipe.dataset.name),
    # A training ended one epoch later.
    "patience": lambda recipe: isinstance(recipe, Training) and recipe.training.patience is not None,
}


def ingredients(value: Any) -> Any:
    """A recipe as plain values, without what is as it always was: a new option with a default changes no old key.

    A change of a default needs a higher version of the recipe.
    """
    if isinstance(value, SpecPart):
        fields, left_out = type(value).model_fields, value.left_out_of_key
        return {
            name: ingredients(field)
            for name, field in value
            if name != "kind" and name not in left_out and (name == "name" or field != fields[name].get_default())
        }
    if isinstance(value, tuple):
        return [ingredients(item) for item in value]
    if isinstance(value, dict):
        return {name: ingredients(item) for name, item in value.items()}
    return value
