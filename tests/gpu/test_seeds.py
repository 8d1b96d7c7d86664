"""Random numbers on the device: from the seeds of a spec, and the same ones after a training was left."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_queue.shared.errors import HandedBack
from distill_queue.worker import models
from distill_queue.worker.machine.determinism import determinism
from distill_queue.worker.machine.runtime import Runtime
from tests.gpu.conftest import contents, plan, run

pytestmark = pytest.mark.gpu


class Leaving:
    """A report that ends the training at a step, counted over all epochs."""

    def __init__(self, step: int) -> None:
        self.left = step

    def __call__(self, progress: str, _samples: int = 0, _share: float | None = None) -> None:
        self.left -= "step" in progress
        if not self.left:
            raise HandedBack(progress)


def test_the_devices_generator_is_seeded_and_put_back(device: torch.device) -> None:
    torch.rand(3, device=device)
    next_without = state_of(device)

    drawn = []
    for _ in range(2):
        with determinism(7, device):
            drawn.append(torch.rand(1_000, device=device))

    assert torch.equal(*drawn)
    assert torch.equal(state_of(device), next_without)


def state_of(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def test_a_model_of_a_seed_has_the_weights_that_it_has_on_the_cpu(tmp_path: Path, runtime: Runtime) -> None:
    asked = plan({"name": "cnn", "width": 4, "depth": 2})
    record = run(asked, tmp_path, runtime)["prepare_data"].record
    spec = asked.trunk[1].recipe.model

    there, here = (models.build(spec, record, each, 5) for each in (runtime, Runtime(torch.device("cpu"))))

    for name, tensor in here.state_dict().items():
        assert torch.equal(tensor, there.state_dict()[name].cpu()), name


def test_a_training_with_dropout_that_was_left_ends_with_the_bytes_of_one_that_was_not(
    tmp_path: Path, runtime: Runtime
) -> None:
    asked = plan({"name": "mine:with_dropout"}, epochs=3)
    undisturbed = run(asked, tmp_path / "undisturbed", runtime, "train_teacher")["train_teacher"]

    for stop_at in (30, 70):
        with pytest.raises(HandedBack):
            run(asked, tmp_path / "left", runtime, "train_teacher", report=Leaving(stop_at), checkpoint_seconds=1e9)
    resumed = run(asked, tmp_path / "left", runtime, "train_teacher")["train_teacher"]

    assert contents(resumed)["model.safetensors"] == contents(undisturbed)["model.safetensors"]
