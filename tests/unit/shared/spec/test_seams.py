"""The seams: a loss, or a family of models, is a file of its spec, a file of the worker's and a line."""

from __future__ import annotations

from importlib import import_module
from typing import get_args

import pytest

from distill_queue.shared.spec.distillation import LOSSES, DistillationSpec
from distill_queue.shared.spec.losses.loss import SoftLoss
from distill_queue.shared.spec.model import FAMILIES, ModelSpec
from distill_queue.shared.spec.models.family import ModelFamily


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_each_loss_has_a_file_of_its_name_on_both_sides(loss: type[SoftLoss]) -> None:
    assert loss.__module__ == f"distill_queue.shared.spec.losses.{loss.loss_name}"
    assert callable(import_module(f"distill_queue.worker.losses.{loss.loss_name}").soft_loss)
    assert loss.about


def test_no_two_losses_have_an_option_of_one_name() -> None:
    options = [field for loss in DistillationSpec.__bases__ for field in loss.__pydantic_fields__]

    assert sorted(options) == sorted(DistillationSpec.__pydantic_fields__)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.family)
def test_each_family_of_models_has_a_file_of_its_name_on_both_sides(family: type[ModelFamily]) -> None:
    assert family.__module__ == f"distill_queue.shared.spec.models.{family.family}"
    assert callable(import_module(f"distill_queue.worker.models.{family.family}").build)
    assert family.listed


def test_each_family_of_models_is_tagged_by_its_name() -> None:
    tagged = {tag.tag: family for family, tag in map(get_args, get_args(get_args(ModelSpec)[0]))}

    assert tagged == {family.family: family for family in FAMILIES}
