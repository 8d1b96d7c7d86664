"""What a pipeline asks of data that are not known before they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.shared.plan.demands import unmet
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import DatasetRecord, InputRecord
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
OWN = {"name": "mine:data"}
PHOTOS = {"name": "image_folder", "path": "my/photos", "size": 4}
MODEL = {"name": "mlp", "hidden": [8]}
GRID = {"name": "small", "model": MODEL, "distillation": {"temperature": {"grid": [1, 4]}}}


def record(**changes: Any) -> DatasetRecord:
    facts = {
        "shape": (3, 4, 4), "class_names": ("a", "b"), "train_samples": 2, "labelled_samples": 2,
        "validation_samples": 0, "test_samples": 2, "mean": (0.0,) * 3, "std": (1.0,) * 3,
    }  # fmt: skip
    return DatasetRecord.model_validate(facts | changes)


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"teacher": {"model": MODEL, "training": {"keep": "best"}}}, "train teacher"),
        ({"students": [{"name": "small", "model": MODEL, "training": {"patience": 2}}]}, "distill small"),
        ({"students": [GRID]}, "choose small"),
    ],
)
def test_what_chooses_needs_held_out_samples(make_spec: MakeSpec, changes: dict[str, Any], title: str) -> None:
    plan = Plan.of(make_spec(dataset=PHOTOS, **changes))

    assert unmet(plan, record()) == (
        f"'{title}' needs held-out samples, and photos has none: set dataset.validation to their share, as 0.1, or add "
        "a folder validation"
    )
    assert not unmet(plan, record(validation_samples=2))
    assert not unmet(Plan.of(make_spec(dataset=PHOTOS)), record())


@pytest.mark.parametrize(
    ("augmentation", "facts", "words"),
    [
        (
            {"mixup": 0.2},
            {"shape": (), "inputs": {name: InputRecord(kind="tokens", shape=(9,)) for name in ("ids", "mask")}},
            ": a sample is ids and mask, which have no views together",
        ),
        ({"mixup": 0.2}, {"shape": (9,), "mean": (), "std": ()}, ": the samples are tokens, which have no views"),
        ({"flip": True}, {"shape": (9,)}, ": samples of shape (9,) are no images: only mixup is possible"),
        ({"grayscale": 0.5}, {"shape": (1, 4, 4)}, ".grayscale: samples of shape (1, 4, 4) have no colours: images of"),
    ],
)
def test_views_need_samples_that_have_them(
    make_spec: MakeSpec, augmentation: dict[str, Any], facts: dict[str, Any], words: str
) -> None:
    of_labels = make_spec(dataset=OWN, soft_labels={"views": 2, "augmentation": augmentation})
    of_teacher = make_spec(dataset=OWN, teacher={"model": MODEL, "training": {"augmentation": augmentation}})

    for spec, place in ((of_labels, "soft_labels"), (of_teacher, "teacher.training")):
        assert unmet(Plan.of(spec), record(**facts)).startswith(f"{place}.augmentation{words}")
        assert not unmet(Plan.of(spec), record())


def test_weights_are_for_classes_that_the_data_have(make_spec: MakeSpec) -> None:
    training = {"class_weights": {"a": 2.0, "bee": 3.0}}
    plan = Plan.of(make_spec(dataset=OWN, teacher={"model": MODEL, "training": training}))

    assert unmet(plan, record()).startswith("training.class_weights: class bee is none of the 2 classes of the data")
    assert not unmet(plan, record(class_names=("a", "bee")))
