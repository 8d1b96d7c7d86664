"""What a spec says of views."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.pipeline import PipelineSpec


@pytest.mark.parametrize(
    ("augmentation", "message"),
    [
        ({"mixup": 0.2, "cutmix": 0.3}, "cutmix: give either 'mixup' or 'cutmix'"),
        ({"crop": {"area": [0.5]}}, "crop.area: input should be two numbers from 0.01 to 1.0, the smaller one first"),
        ({"crop": {"area": [0.9, 0.5]}}, "crop.area: input should be two numbers from 0.01 to 1.0, the smaller"),
        ({"crop": {"area": [0, 1]}}, "crop.area: input should be two numbers from 0.01 to 1.0, the smaller"),
        ({"crop": {"ratio": [0.5, 11]}}, "crop.ratio: input should be two numbers from 0.1 to 10.0, the smaller"),
        ({"jitter": {}}, "jitter: give at least one of brightness, contrast, saturation and hue"),
        ({"jitter": {"hue": 0.6}}, "jitter.hue"),
        ({"rand_augment": {"magnitude": 31}}, "rand_augment.magnitude"),
        ({"croop": {}}, "unknown key; did you mean 'crop'?"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_message(
    write_spec: Callable[..., Path], augmentation: dict[str, Any], message: str
) -> None:
    path = write_spec(soft_labels={"views": 2, "augmentation": augmentation})

    with pytest.raises(InvalidSpec) as error:
        PipelineSpec.load(path)

    assert message in str(error.value)
    assert "spec.yaml:" in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("dataset", "augmentation", "message"),
    [
        ({"name": "text", "path": "t"}, {"mixup": 0.1}, "augmentation: a sample is ids and mask, which have no views"),
        ({"name": "mnist"}, {"grayscale": 0.5}, r"augmentation.grayscale: samples of shape \(1, 28, 28\) have no col"),
        (
            {"name": "image_folder", "path": "p", "size": [4, 6], "channels": 1},
            {"jitter": {"hue": 0.1}},
            r"augmentation.jitter.hue: samples of shape \(1, 4, 6\) have no colours",
        ),
    ],
)
def test_views_that_the_samples_cannot_have_are_refused_before_they_are_read(
    write_spec: Callable[..., Path], dataset: dict[str, Any], augmentation: dict[str, Any], message: str
) -> None:
    model = {"name": "mlp", "hidden": [8]}
    of_labels = {"soft_labels": {"views": 2, "augmentation": augmentation}}
    of_teacher = {"teacher": {"model": model, "training": {"augmentation": augmentation}}}

    for changes, place in ((of_labels, "soft_labels"), (of_teacher, "teacher.training")):
        with pytest.raises(InvalidSpec, match=f"spec.yaml:[0-9]+: {place}.{message}"):
            PipelineSpec.load(write_spec(dataset=dataset, **changes))


@pytest.mark.parametrize(
    "field",
    [
        {"crop": {}},
        {"rotation": 5},
        {"rand_augment": {}},
        {"jitter": {"hue": 0.1}},
        {"grayscale": 0.1},
        {"cutmix": 0.5},
        {"shift": 1},
        {"mixup": 0.1},
    ],
)
def test_every_field_makes_views_differ(field: dict[str, Any]) -> None:
    spec = AugmentationSpec.model_validate(field)

    assert not spec.changes_nothing
    assert spec.needs_images == (not spec.mixup)
    assert AugmentationSpec.model_validate_json(spec.model_dump_json()) == spec


def test_what_is_not_said_is_in_no_message() -> None:
    assert AugmentationSpec().model_dump(mode="json") == {
        "shift": 0, "flip": False, "cutout": 0, "mixup": 0.0, "seed": 0,
    }  # fmt: skip
