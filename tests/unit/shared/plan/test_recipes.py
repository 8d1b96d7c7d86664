"""The words about a kind of stage stand in its recipe, and in no key, message or artifact."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import get_args

import pytest

from distill_queue.shared.catalog import STAGE_KINDS
from distill_queue.shared.plan.description import details
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import RECIPES, StageRecipe, Work
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


def test_the_catalog_lists_the_kinds_of_all_recipes_in_their_order() -> None:
    assert tuple(RECIPES) == STAGE_KINDS, (
        "name a new kind in the catalog's STAGE_KINDS and in Recipe, at the same place"
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_what_is_told_of_a_kind_is_no_field_of_its_recipe(recipe: type[StageRecipe]) -> None:
    assert recipe.version >= 1
    assert recipe.work in get_args(Work)
    assert not {"version", "work", "unfinished_folder"} & recipe.model_fields.keys()


def test_a_message_carries_nothing_that_is_told_of_the_kind(make_spec: MakeSpec) -> None:
    stages = Plan.of(make_spec()).stages

    messages = [json.loads(stage.model_dump_json())["recipe"] for stage in stages]

    assert messages
    for message in messages:
        assert not {"version", "work", "unfinished_folder"} & message.keys()


def test_each_stage_says_in_words_what_it_works_with(make_spec: MakeSpec) -> None:
    seen = {"top_k": 3, "views": 2, "augmentation": {"shift": 1}}
    student = {"name": "small", "model": {"name": "cnn", "width": 4}, "distillation": {"loss": "dkd", "alpha": 0.5}}
    stages = Plan.of(make_spec(students=[student], soft_labels=seen)).stages

    said = {stage.title: details(stage, "digits") for stage in stages}

    assert said["prepare digits"] == ()
    assert said["train teacher"] == ("mlp 32", "digits", "2 epochs")
    assert said["soft labels"] == ("digits", "top 3 float16", "2 views")
    assert said["distill small"] == ("cnn 4-8-16", "digits", "dkd T=4 alpha=0.5", "5 epochs")
    assert said["train small/control"] == ("cnn 4-8-16", "digits", "5 epochs")
    assert said["report"] == ("digits",)
