"""Models of timm: fitted to the images and classes of the data, repeatable, and refused where they do not fit."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.timm import TimmSpec
from distill_queue.worker import models
from distill_queue.worker.machine.runtime import Runtime

pytest.importorskip("timm")  # Loaded once, here, and not in the first test.

CPU = Runtime(torch.device("cpu"))


def images(*shape: int, classes: int = 7) -> DatasetRecord:
    return DatasetRecord(
        shape=shape,
        class_names=tuple(map(str, range(classes))),
        train_samples=1,
        labelled_samples=1,
        validation_samples=0,
        test_samples=1,
        mean=(0.0,) * shape[0],
        std=(1.0,) * shape[0],
    )


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("timm/test_resnet", {}, (1, 32, 32)),
        ("timm/test_vit", {"patch_size": 4, "drop_path_rate": 0.1}, (3, 16, 24)),
        ("timm/test_convnext", {}, (3, 32, 32)),
    ],
)
def test_a_model_of_timms_is_fitted_to_images_and_classes(
    name: str, options: dict[str, float], shape: tuple[int, ...]
) -> None:
    spec = TimmSpec(name=name, options=options)

    one, same, other = (models.build(spec, images(*shape), CPU, seed) for seed in (1, 1, 2))

    assert one.eval()(torch.zeros(2, *shape)).shape == (2, 7)
    assert all(map(torch.equal, one.state_dict().values(), same.state_dict().values()))
    assert not all(map(torch.equal, one.parameters(), other.parameters()))


def test_options_reach_timm() -> None:
    narrow, wide = (
        models.build(
            TimmSpec(name="timm/test_vit", options={"patch_size": 4, "embed_dim": width}), images(3, 16, 16), CPU
        )
        for width in (32, 64)
    )

    assert models.parameters(narrow) < models.parameters(wide)


@pytest.mark.parametrize(
    ("name", "options", "shape", "words"),
    [
        ("timm/test_vitt", {}, (3, 32, 32), r"^timm [\d.]+ has no model 'test_vitt'; did you mean 'test_vit' or"),
        ("timm/test_vit", {"depht": 2}, (3, 32, 32), r"cannot be made for samples of \(3, 32, 32\): .*'depht'"),
        ("timm/test_vit", {}, (3, 20, 20), r"does not take samples of shape \(3, 20, 20\): .*divisible by patch size"),
        ("timm/test_resnet", {}, (5,), r"^timm/test_resnet takes images \[channels, height, width\], samples are of"),
    ],
)
def test_what_timm_cannot_make_is_refused_in_one_line(
    name: str, options: dict[str, int], shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InvalidSpec, match=words) as refusal:
        models.build(TimmSpec(name=name, options=options), images(*shape), CPU, 1)

    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "timm/resnet18.a1_in1k"}, r"a tag of weights is said as weights: a1_in1k"),
        ({"name": "timm/resnet18", "weights": "a1_in1k"}, r"the hash of their commit"),
        ({"name": "timm/resnet18", "weights": "a1_in1k", "revision": "main"}, r"the hash of a commit, 40 digits"),
        ({"name": "timm/resnet18", "revision": "a" * 40}, r"there are none"),
    ],
)
def test_weights_have_a_tag_and_a_commit(values: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TimmSpec.model_validate(values)


def test_a_worker_without_timm_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)

    with pytest.raises(InvalidSpec, match=r"models of timm's need timm, .* pip install 'distill-queue\[timm\]'"):
        models.build(TimmSpec(name="timm/test_resnet"), images(3, 32, 32), CPU)
