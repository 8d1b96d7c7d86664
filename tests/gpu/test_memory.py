"""The device's memory: what a stage is estimated to take, and what is said where there is not so much."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.data.batches import Batches, size_bytes
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, fit
from distill_queue.worker.training.objective import Goal
from tests.gpu.conftest import plan, run

pytestmark = pytest.mark.gpu

SHAPE = (3, 32, 32)
#: Of one layer, so that little is allocated before a batch is: 170 MB of float32 for its outputs alone.
WIDE, WIDE_TRAINING = {"name": "mlp", "hidden": [16_384]}, {"batch_size": 2_600, "epochs": 1, "precision": "float32"}


@contextmanager
def little_memory(card: torch.device) -> Iterator[None]:
    """Let torch allocate 150 MB more, of which an estimate knows nothing; the card is left as it is."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(card).total_memory
    # Of the current card, as torch takes no device without a number here.
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(card) + 150_000_000) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("model", "batch_size"),
    [
        ({"name": "mlp", "hidden": [2_048, 2_048]}, 4_096),
        ({"name": "cnn", "width": 64}, 1_024),
        ({"name": "resnet8"}, 512),
    ],
    ids=["mlp", "cnn", "resnet8"],
)
def test_an_estimate_is_near_the_peak(
    tmp_path: Path, card: torch.device, model: dict[str, Any], batch_size: int, precision: torch.dtype
) -> None:
    runtime, names = Runtime(card), tuple(map(str, range(10)))
    record = DatasetRecord(
        shape=SHAPE, class_names=names, train_samples=4_096, labelled_samples=4_096, validation_samples=0,
        test_samples=1, mean=(127.0,) * 3, std=(70.0,) * 3,
    )  # fmt: skip
    built = models.build(plan(model).trunk[1].recipe.model, record, runtime, 0)
    training = TrainingSpec(epochs=1, batch_size=batch_size)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(card)
    mean, std = (torch.tensor(each, device=card).view(3, 1, 1) for each in (record.mean, record.std))
    inputs = torch.randint(0, 256, (4_096, *SHAPE), dtype=torch.uint8, device=card)
    split = Split(inputs, torch.zeros(4_096, dtype=torch.int64, device=card), mean, std, 4_096)
    data = size_bytes(split, AugmentationSpec(), precision)
    estimated = memory.of_training([built], training, split.normalised(slice(0, 1)), precision, data).total
    torch.cuda.reset_peak_memory_stats(card)

    batches = Batches(split, AugmentationSpec(), None, precision)
    fit([Member(built, training, Goal())], batches, None, precision, lambda *_: None, Checkpoints(tmp_path, 1e9))

    measured = torch.cuda.max_memory_allocated(card) - before
    assert 0.5 < estimated / measured < 2.5, (estimated, measured)


def test_what_torch_keeps_for_itself_is_as_good_as_free(card: torch.device) -> None:
    torch.cuda.empty_cache()
    before = memory.free_bytes(card)
    block = torch.empty(size := before // 8, dtype=torch.uint8, device=card)
    taken = memory.free_bytes(card)

    del block
    kept = memory.free_bytes(card)

    # Others may use the card meanwhile, but not to such an extent.
    assert before - taken > size // 2
    assert kept - taken > size // 2


def test_a_training_that_does_not_fit_is_refused_before_it_starts_and_says_what_does(
    tmp_path: Path, runtime: Runtime
) -> None:
    run(asked := plan({"name": "cnn"}, batch_size=2_600), tmp_path, runtime)

    with pytest.raises(StageFailed, match=r"^not enough memory: the models take about .* a batch_size of \d+ fits"):
        run(asked, tmp_path, replace(runtime, memory_gb=0.02), "train_teacher")


def test_memory_that_runs_out_after_all_is_one_line_with_the_numbers(
    tmp_path: Path, runtime: Runtime, card: torch.device
) -> None:
    asked = plan(WIDE, **WIDE_TRAINING)

    words = r"^memory ran out \(CUDA out of memory[^()]*\): the models take about .* try a batch_size of 1,300; "
    with little_memory(card), pytest.raises(StageFailed, match=words) as told:
        run(asked, tmp_path, runtime, "train_teacher")

    assert "\n" not in str(told.value)


def test_a_stage_can_be_run_after_one_that_ran_out_of_memory(
    tmp_path: Path, runtime: Runtime, card: torch.device
) -> None:
    asked = plan(WIDE, **WIDE_TRAINING)
    with little_memory(card), pytest.raises(StageFailed, match="memory ran out"):
        run(asked, tmp_path, runtime, "train_teacher")

    assert run(plan(), tmp_path, runtime, "train_teacher")["train_teacher"].record is not None
