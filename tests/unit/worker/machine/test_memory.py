"""The estimates of a stage's memory, and the messages if there is no room."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.memory import Need
from distill_queue.worker.models import Cnn, Mlp


def need(data: int = 0, models: int = 0, sample: int = 0, batch_size: int = 1) -> Need:
    return Need(data=data, models=models, sample=sample, batch_size=batch_size)


def test_data_are_streamed_where_they_do_not_fit_and_the_rest_does() -> None:
    assert not need(data=80, models=10).streams(100)
    assert need(data=85, models=10).streams(100)


def test_a_stage_without_room_says_how_much_it_needs_and_what_fits() -> None:
    with pytest.raises(StageFailed, match=r"models take about 2\.00 GB and a batch of 64 64\.00 GB, of 9\.00 GB .*: a"):
        need(models=2 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)
    with pytest.raises(StageFailed, match="a batch_size of 7 fits"):
        need(models=2 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)
    with pytest.raises(StageFailed, match="take a smaller model"):
        need(models=20 * 10**9, sample=10**9, batch_size=64).streams(10 * 10**9)


def test_stacked_models_and_kept_weights_are_counted() -> None:
    models = [nn.Linear(1_000, 1_000, bias=False) for _ in range(3)]
    inputs = torch.zeros(1, 1_000)
    alone = memory.of_training(models[:1], TrainingSpec(), inputs, torch.float32, 0)
    together = memory.of_training(models, TrainingSpec(), inputs, torch.float32, 0)
    best = memory.of_training(models[:1], TrainingSpec(keep="best"), inputs, torch.float32, 0)
    sgd = memory.of_training(models[:1], TrainingSpec(optimizer="sgd"), inputs, torch.float32, 0)
    plain = memory.of_training(models[:1], TrainingSpec(optimizer="sgd", momentum=0.0), inputs, torch.float32, 0)
    averaged = memory.of_training(models[:1], TrainingSpec(ema_decay=0.9), inputs, torch.float32, 0)
    accumulated = memory.of_training(models[:1], TrainingSpec(accumulate=4), inputs, torch.float32, 0)
    assert (together.models, together.sample) == (3 * alone.models, 3 * alone.sample)
    assert plain.models < sgd.models < alone.models < best.models == averaged.models
    assert alone.models < accumulated.models
    assert accumulated.batch == alone.batch


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
        MemoryError("Unable to allocate 3 GiB"),
    ],
)
def test_memory_that_runs_out_is_a_failure_with_the_numbers(error: Exception) -> None:
    explanation = need().explanation_after_all(10**9)
    with (
        pytest.raises(StageFailed, match=r"memory ran out \(.*\): the models take"),
        memory.running_out_fails(explanation),
    ):
        raise error


def test_memory_that_runs_out_though_the_estimate_fits_is_no_reason_for_a_larger_batch() -> None:
    torchs = (
        "CUDA out of memory. Tried to allocate 16.00 MiB. GPU 0 has a total capacity of 79.18 GiB of which 78.22 GiB "
        "is free. 238.42 MiB allowed; If reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF="
        "expandable_segments:True to avoid fragmentation.  See documentation for Memory Management  (https://…)"
    )
    large, single = (
        need(models=10**7, sample=10**4, batch_size=size).explanation_after_all(84 * 10**9) for size in (60_000, 1)
    )

    with pytest.raises(StageFailed) as failed, memory.running_out_fails(large):
        raise torch.OutOfMemoryError(torchs)

    assert str(failed.value) == (
        "memory ran out (CUDA out of memory. Tried to allocate 16.00 MiB): the models take about 0.01 GB and a batch "
        "of 60,000 0.60 GB, of 75.60 GB that can be had: another process may use the memory as well; try a batch_size "
        "of 30,000; with fuse: off models are trained one by one"
    )
    assert "take a smaller model" in single


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="mat1 and mat2"), memory.running_out_fails(""):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_inference_takes_the_largest_power_of_two_that_fits() -> None:
    model, inputs = nn.Sequential(nn.Linear(10, 1_000), nn.ReLU(), nn.Linear(1_000, 2)), torch.zeros(1, 10)
    sample = memory.FORWARD_COPIES * 1_000 * 4

    roomy, tight, tiny = (memory.of_inference(model, inputs, 0, free, 512) for free in (10**9, 50 * sample, 10))

    assert (roomy.batch_size, tight.batch_size, tiny.batch_size) == (512, 32, 1)
    with pytest.raises(StageFailed, match="take a smaller model"):
        tiny.streams(10)


class _Chunks(nn.Module):
    """A model that works on two samples at a time: on four it keeps another number of tensors than on two."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(10, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.layer(chunk.sigmoid()) for chunk in inputs.split(2)])


@pytest.mark.parametrize("model", [Mlp(4, (3,), 2), Cnn(1, 4, 1, 2)], ids=["mlp", "cnn"])
def test_an_estimate_leaves_nothing_of_its_pass_behind(model: nn.Module) -> None:
    def mark(*_: object) -> None:
        for parameter in model.parameters():
            accumulator(parameter).metadata["of the estimate"] = True

    hook = model.register_forward_hook(mark)
    memory.of_training([model], TrainingSpec(), torch.zeros(1, 1, 2, 2), torch.float32, 0)
    hook.remove()

    # What is left alive of it would belong to another stream than the training's steps, which could not be recorded.
    assert not any(accumulator(parameter).metadata for parameter in model.parameters())


def accumulator(parameter: torch.Tensor) -> torch.autograd.graph.Node:
    """What adds to a parameter's gradient; it lives as long as a pass that the parameter was part of."""
    node = parameter.view_as(parameter).grad_fn
    assert node is not None
    (found, _), *_ = node.next_functions
    assert found is not None
    return found


def test_an_estimate_takes_any_model() -> None:
    assert memory.of_training([_Chunks()], TrainingSpec(), torch.zeros(1, 10), torch.float32, 0).sample > 0


def test_a_control_group_limits_what_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 300000\ninactive_file 50000\n")
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path)
    assert memory.free_bytes(torch.device("cpu")) == 650_000
