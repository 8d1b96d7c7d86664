"""Patterns over the names of parameters, and the order of layers that the names tell."""

from __future__ import annotations

from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.spec.parameters import depths, unmatched
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.training import TrainingSpec

RESNET = ["conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight", "layer2.0.conv1.weight"]


def of(training: dict[str, Any], model: dict[str, Any] | None = None) -> PipelineSpec:
    model = model or {"name": "resnet8"}
    student = {"name": "s", "model": model, "training": training}
    return PipelineSpec.of({"name": "p", "teacher": {"model": {"name": "resnet8"}}, "students": [student]})


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["layers.0.weight", "layers.0.bias", "head.weight"], [1, 1, 2]),
        (["0.weight", "2.weight", "10.weight"], [1, 2, 3]),
        (["fc1.weight", "fc2.weight", "out.weight"], [1, 2, 3]),
        ([*RESNET, "fc.weight"], [0, 0, 1, 1, 2, 3]),
        (["head.weight", "blocks.0.0.weight", "blocks.1.0.weight", "norm.weight"], [3, 1, 2, 3]),
        (["cls_token", "patch_embed.proj.weight", "blocks.0.a", "blocks.1.a", "norm.bias"], [0, 0, 1, 2, 3]),
        (
            ["encoder.pos_embedding", "encoder.layers.encoder_layer_0.a.b", "encoder.layers.encoder_layer_11.a.b"],
            [0, 1, 2],
        ),
        (
            ["bert.embeddings.w.weight", "bert.encoder.layer.0.a", "bert.encoder.layer.10.a", "classifier.w"],
            [0, 1, 2, 3],
        ),
        (["stem.0.weight", "stem.1.weight", "blocks.0.a", "blocks.1.a", "blocks.2.a", "head.w"], [0, 0, 1, 2, 3, 4]),
    ],
)
def test_layers_are_found_in_the_names_of_parameters(names: list[str], expected: list[int]) -> None:
    assert list(depths(names).values()) == expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("layer1", "no parameter is named 'layer1'; did you mean 'layer1.*'?"),
        ("layr1.*", "'layr1.*' matches no parameter; did you mean 'layer1.*'"),
        ("zzz", "'zzz' matches no parameter; their names begin with conv1, bn1, layer1, layer2"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused_with_near_names(pattern: str, said: str) -> None:
    assert unmatched(pattern, RESNET).startswith(said)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"freeze": ["sten.*"]}, r"training\.freeze: 'sten\.\*' matches no parameter; did you mean 'stem\.\*'"),
        ({"freeze": ["stem"]}, r"training\.freeze: no parameter is named 'stem'; did you mean 'stem\.\*'\?"),
        ({"freeze": ["*running_mean"]}, r"training\.freeze: '\*running_mean' matches no parameter"),
        ({"freeze": ["stem.*", "*"]}, r"training\.freeze: all parameters are frozen: there is nothing to train"),
        ({"learning_rates": {"haed.*": 0.1}}, r"training\.learning_rates: 'haed\.\*' matches .* 'head\.\*'"),
        ({"learning_rates": {"head.*": 0}}, r"greater than 0"),
        ({"freeze": ["a b"]}, r"freeze"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_anything_is_submitted(
    training: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidSpec, match=said):
        of(training)


def test_a_model_without_numbered_layers_has_no_layer_decay() -> None:
    with pytest.raises(InvalidSpec, match=r"training\.layer_decay: no layers are numbered"):
        of({"layer_decay": 0.8}, {"name": "mlp", "hidden": []})


def test_a_layer_has_a_part_of_the_rate_of_the_next_one() -> None:
    training = TrainingSpec(learning_rate=1.0, layer_decay=0.5)

    assert training.rates([*RESNET, "fc.weight"]) == [0.125, 0.125, 0.25, 0.25, 0.5, 1.0]


def test_the_first_pattern_that_matches_gives_the_rate() -> None:
    rates = {"fc.*": 0.3, "layer1.0.*": 0.2, "layer1.*": 0.1}
    training = TrainingSpec.model_validate({"learning_rate": 1.0, "layer_decay": 0.5, "learning_rates": rates})

    assert training.rates([*RESNET, "fc.weight"]) == [0.125, 0.125, 0.2, 0.1, 0.5, 0.3]


def test_the_order_of_the_patterns_is_part_of_what_is_kept_and_of_the_key() -> None:
    one, other = (
        TrainingSpec.model_validate({"learning_rates": dict(pairs)})
        for pairs in ((("a.*", 0.1), ("*", 0.2)), (("*", 0.2), ("a.*", 0.1)))
    )

    assert TrainingSpec.model_validate_json(one.model_dump_json()) == one != other
    assert ingredients(one) != ingredients(other)
    assert TrainingSpec.model_validate(ingredients(one)) == one


def test_a_spec_that_says_none_of_it_is_what_it_was() -> None:
    assert not TrainingSpec().is_new
    assert not {"freeze", "learning_rates", "layer_decay"} & set(TrainingSpec().model_dump())
    for said in ({"freeze": ["a"]}, {"learning_rates": {"a": 0.1}}, {"layer_decay": 0.8}):
        assert TrainingSpec.model_validate(said).is_new
