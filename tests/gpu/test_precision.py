"""bfloat16 where the device has it and it is right, else float32."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.worker.machine.runtime import Runtime
from tests.gpu.conftest import plan, run

pytestmark = pytest.mark.gpu


@pytest.fixture
def native(runtime: Runtime) -> Runtime:
    """The runtime, where the device computes bfloat16 natively."""
    if runtime.dtype("auto") != torch.bfloat16:
        pytest.skip("auto is no bfloat16 on this device anyway")
    return runtime


def trained(folder: Path, runtime: Runtime, model: dict[str, object], precision: str = "auto") -> TrainingRecord:
    record = run(plan(model, precision=precision, epochs=1), folder, runtime, "train_teacher")["train_teacher"].record
    assert isinstance(record, TrainingRecord)
    return record


def test_auto_is_bfloat16_on_a_card_that_computes_it_else_float16_on_one_with_tensor_cores(card: torch.device) -> None:
    capability = torch.cuda.get_device_capability(card)
    without = torch.float16 if capability >= (7, 0) else torch.float32

    assert Runtime(card).dtype("auto") == (torch.bfloat16 if capability >= (8, 0) else without)
    assert Runtime(card).dtype("auto", stacked=True) == (torch.bfloat16 if capability >= (8, 0) else torch.float32)


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [32]}, {"name": "cnn", "width": 8, "depth": 2}])
def test_the_probe_finds_no_fault_in_bfloat16_of_our_models(
    tmp_path: Path, native: Runtime, model: dict[str, object]
) -> None:
    record = trained(tmp_path, native, model)

    assert (record.precision, record.fallback) == ("bfloat16", None)


def test_a_model_that_is_wrong_in_bfloat16_is_trained_in_float32_and_says_why(tmp_path: Path, native: Runtime) -> None:
    record = trained(tmp_path, native, {"name": "mine:wrong_in_bfloat16"})

    assert record.precision == "float32"
    assert record.fallback is not None
    assert "is not finite" in record.fallback


def test_bfloat16_that_is_wrong_is_refused_where_it_is_asked_for(tmp_path: Path, native: Runtime) -> None:
    with pytest.raises(StageFailed, match="is not finite on this device: say auto or float32"):
        trained(tmp_path, native, {"name": "mine:wrong_in_bfloat16"}, "bfloat16")


def test_all_precisions_come_to_the_same_accuracy(tmp_path: Path, native: Runtime) -> None:
    model: dict[str, object] = {"name": "mlp", "hidden": [64]}

    accuracies = [
        trained(tmp_path / precision, native, model, precision).train_accuracy
        for precision in ("bfloat16", "float16", "float32")
    ]

    assert max(accuracies) - min(accuracies) < 0.02
