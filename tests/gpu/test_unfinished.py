"""Unfinished work of another kind of device, which has other last bits: it is not gone on with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from distill_queue.shared.errors import HandedBack
from distill_queue.shared.plan.plan import Plan
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints
from tests.gpu.conftest import contents, plan, run
from tests.gpu.test_seeds import Leaving

pytestmark = pytest.mark.gpu

KINDS = ("train_teacher", "soft_labels")


@pytest.fixture
def on_the_cpu(runtime: Runtime, card: torch.device) -> Runtime:
    """A worker without a card, beside the one that has it."""
    return Runtime(torch.device("cpu"), runtime.plugins)


def leave(asked: Plan, folder: Path, runtime: Runtime, kind: str, report: Report) -> None:
    with pytest.raises(HandedBack):
        run(asked, folder, runtime, kind, report=report, checkpoint_seconds=1e9)


def test_a_checkpoint_says_on_what_kind_of_device_it_was_made(tmp_path: Path) -> None:
    Checkpoints(tmp_path, 30.0, "cpu").save(1, Checkpoint({"weights": torch.ones(3)}, {}))

    assert Checkpoints(tmp_path, 30.0, "cuda").latest() is None
    assert Checkpoints(tmp_path, 30.0, "cpu").latest() is not None


def test_a_training_that_was_begun_on_the_cpu_begins_anew_on_a_card(
    tmp_path: Path, runtime: Runtime, on_the_cpu: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asked = plan(precision="float32")
    undisturbed = run(asked, tmp_path / "undisturbed", runtime, "train_teacher")["train_teacher"]
    leave(asked, tmp_path / "left", on_the_cpu, "train_teacher", Leaving(30))

    anew = run(asked, tmp_path / "left", runtime, "train_teacher")["train_teacher"]

    assert "goes on from step" not in caplog.text
    assert contents(anew)["model.safetensors"] == contents(undisturbed)["model.safetensors"]


def test_a_training_that_was_begun_on_a_card_begins_anew_on_the_cpu(
    tmp_path: Path, runtime: Runtime, on_the_cpu: Runtime
) -> None:
    asked = plan(precision="float32")
    undisturbed = run(asked, tmp_path / "undisturbed", on_the_cpu, "train_teacher")["train_teacher"]
    leave(asked, tmp_path / "left", runtime, "train_teacher", Leaving(30))

    anew = run(asked, tmp_path / "left", on_the_cpu, "train_teacher")["train_teacher"]

    assert contents(anew)["model.safetensors"] == contents(undisturbed)["model.safetensors"]


def test_soft_labels_that_were_begun_on_the_cpu_are_not_mixed_with_a_cards(
    tmp_path: Path, runtime: Runtime, on_the_cpu: Runtime
) -> None:
    asked = plan(labels={"dtype": "float32"})
    for name in ("undisturbed", "left"):
        run(asked, tmp_path / name, runtime, "train_teacher")
    undisturbed = run(asked, tmp_path / "undisturbed", runtime, *KINDS)["soft_labels"]
    calls = 0

    def in_the_second_block(_progress: str, _samples: int = 0, _share: float | None = None) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise HandedBack("half of the blocks are there")

    with pytest.raises(HandedBack):
        run(asked, tmp_path / "left", on_the_cpu, *KINDS, report=in_the_second_block)

    anew = run(asked, tmp_path / "left", runtime, *KINDS)["soft_labels"]

    assert contents(anew) == contents(undisturbed)
