"""How inputs reach the models where a spec states it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter
from torchvision.transforms import v2

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.normalise import NormaliseInputs
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.normalisation import Normalisation
from distill_queue.worker.data.split import Split

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 3, 5, 5), dtype=np.uint8)
TARGETS = np.arange(20) % 2


def as_stated(normalise: Any, inputs: Any, tmp_path: Any) -> torch.Tensor:
    stated = TypeAdapter(NormaliseInputs).validate_python(normalise)
    arrays = Arrays(inputs, TARGETS, inputs, TARGETS, ("a", "b"), normalise=stated)
    seen = Split.open(tmp_path, "train", arrays.save(tmp_path), torch.device("cpu")).normalised(slice(None))
    assert isinstance(seen, torch.Tensor)
    return seen


@pytest.mark.parametrize(
    ("normalise", "transform"),
    [
        ("unit", v2.Identity()),
        ("imagenet", v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])),
        ({"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.3]}, v2.Normalize([0.5, 0.4, 0.3], [0.1, 0.2, 0.3])),
        ({"mean": [0.5], "std": [0.25]}, v2.Normalize([0.5] * 3, [0.25] * 3)),
    ],
)
def test_bytes_are_seen_as_after_the_same_words_in_torchvision(normalise: Any, transform: Any, tmp_path: Any) -> None:
    wanted = transform(torch.from_numpy(PIXELS).float() / 255)

    assert torch.allclose(as_stated(normalise, PIXELS, tmp_path), wanted, atol=1e-5)


def test_nothing_is_done_where_that_is_stated(tmp_path: Any) -> None:
    assert (as_stated("none", PIXELS, tmp_path) == torch.from_numpy(PIXELS)).all()


def test_a_given_teacher_may_see_its_own_inputs_all_the_same(tmp_path: Any) -> None:
    arrays = Arrays(PIXELS, TARGETS, PIXELS, TARGETS, ("a", "b"), normalise="none")
    record = arrays.save(tmp_path)

    assert Normalisation.of("unit", record).std == (255.0,)


@pytest.mark.parametrize(
    ("normalise", "inputs", "message"),
    [
        ({"mean": [0.1, 0.2], "std": [1, 1]}, PIXELS, r"2 means, and samples of shape \(3, 5, 5\)"),
        ("imagenet", PIXELS[:, :1], r"imagenet is of 3 channels"),
        ("unit", PIXELS.astype(np.int16), "the inputs are tokens"),
    ],
)
def test_what_cannot_be_is_refused(normalise: Any, inputs: Any, message: str, tmp_path: Any) -> None:
    with pytest.raises(InvalidSpec, match=message):
        as_stated(normalise, inputs, tmp_path)


def test_it_is_part_of_the_key_where_it_is_stated(make_spec: Any) -> None:
    def key(**dataset: Any) -> str:
        spec: PipelineSpec = make_spec(dataset={"name": "digits", **dataset})
        return Plan.of(spec).trunk[0].key

    assert key() == key(normalise="data")
    assert len({key(), key(normalise="unit"), key(normalise={"mean": [0.5], "std": [0.2]})}) == 3
