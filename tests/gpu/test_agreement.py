"""The device and the CPU: the same bits where that is promised, else the same numbers but for rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import losses
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.data.views.augment import augment
from distill_queue.worker.machine.runtime import Runtime
from tests.gpu.conftest import images, plan, run

pytestmark = pytest.mark.gpu

EVERYTHING = AugmentationSpec(shift=2, flip=True, cutout=3, mixup=0.4, seed=7)
PHOTOGRAPHS = AugmentationSpec.model_validate(
    {
        "crop": {},
        "flip": True,
        "rotation": 30,
        "rand_augment": {},
        "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
        "grayscale": 0.2,
        "cutmix": 0.5,
    }
)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("spec", [EVERYTHING, PHOTOGRAPHS], ids=["everything", "photographs"])
def test_views_are_the_same_bits(device: torch.device, dtype: torch.dtype, spec: AugmentationSpec) -> None:
    inputs, rows = torch.from_numpy(images(200, 1)[0]).to(dtype).expand(-1, 3, -1, -1), torch.arange(200)
    inputs = (inputs * torch.tensor([1, 2, 3], dtype=dtype).view(3, 1, 1)).contiguous()

    here = augment(inputs, rows, 5, spec)
    there = augment(inputs.to(device), rows.to(device), 5, spec)

    for part in ("inputs", "partners", "shares"):
        assert torch.equal(getattr(here, part), getattr(there, part).cpu()), part


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("top_k", [None, 5])
def test_soft_labels_are_decoded_to_what_numpy_makes_of_them(
    device: torch.device, dtype: Any, top_k: int | None
) -> None:
    encoding = Encoding(dtype=dtype, top_k=top_k)
    logits = np.random.default_rng(0).normal(scale=4, size=(300, 40)).astype(np.float32)
    stored = encoding.encode(logits)

    columns = tuple(torch.from_numpy(np.array(column))[None].to(device) for column in stored)
    there = TeacherLogits(encoding, 40, columns)
    decoded = there.logits(there.take(torch.arange(300, device=device), 0, device)).float().cpu().numpy()

    np.testing.assert_allclose(decoded, encoding.decode(stored, 40), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("loss", ["kd", "dkd", "dist", "mse"])
def test_losses_and_their_gradients_are_the_cpus_but_for_rounding(device: torch.device, loss: Any) -> None:
    random = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(64, 10, generator=random) * 3 for _ in range(2))
    targets, options = torch.randint(0, 10, (64,), generator=random), DistillationSpec(loss=loss)
    found = []

    for where in (torch.device("cpu"), device):
        logits = student.to(where).detach().requires_grad_()  # A leaf of its own on either device.
        value = losses.soft(logits, teacher.to(where), targets.to(where), options, temperature=4.0)
        value.backward()
        assert logits.grad is not None
        found.append((value.detach().cpu(), logits.grad.cpu()))

    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(there, here, rtol=1e-4, atol=1e-6)


def test_the_same_spec_comes_to_the_same_accuracies_within_a_point(tmp_path: Path, runtime: Runtime) -> None:
    asked = plan(precision="float32")
    scores = []

    for name, each in (("cpu", Runtime(torch.device("cpu"), runtime.plugins)), ("device", runtime)):
        run(asked, tmp_path / name, each, "train_teacher", "soft_labels", "distill", "train_control", "evaluate")
        records = [FolderStore(tmp_path / name).open(stage.ref).record for stage in asked.stages[:-1]]
        scores.append([record.accuracy for record in records if isinstance(record, EvaluationRecord)])

    assert len(scores[0]) == 3
    for here, there in zip(*scores, strict=True):
        assert abs(here - there) <= 0.01
