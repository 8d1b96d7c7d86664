"""Memory: what a stage will take on its device, told before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shared.errors import StageFailed
from shared.spec import TrainingSpec

#: Share of what is free that a stage plans with; the rest is for what no estimate sees, as a library's scratch space.
USABLE = 0.9
#: Bytes of a float32.
FLOAT = 4
#: Tensors of a weight's size beside it: its gradient and what the optimiser remembers.
BESIDE_WEIGHTS = {"adam": 3, "adamw": 3, "sgd": 2}
#: A batch takes so much more than the tensors that are kept of it: kernels lay tensors out anew, and hold gradients
#: on their way (measured on convolutions: 0.8 to 2.5, as freed memory is used again or not).
WORKSPACE = 1.5
#: Copies of the state that are held while a checkpoint is written.
CHECKPOINT_COPIES = 2

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a stage takes at its peak, beside what its process holds anyway."""

    #: Samples and soft labels; nothing of this where they are streamed.
    data: int
    #: Weights, gradients, the optimiser's state, the best weights so far, and a checkpoint being written.
    models: int
    #: One sample's way through the models.
    sample: int
    batch_size: int

    @property
    def batch(self) -> int:
        """Bytes of one batch in the models."""
        return self.sample * self.batch_size

    @property
    def total(self) -> int:
        """All of it."""
        return self.data + self.models + self.batch

    def streams(self, free: int) -> bool:
        """Whether the data are to be streamed, as there is no room for all of them.

        Raises:
            StageFailed: there is not even room for the rest; the message has the numbers, and what to change.

        """
        usable = int(free * USABLE)
        if self.total <= usable:
            return False
        if self.models + self.batch <= usable:
            return True
        raise StageFailed(f"not enough memory: {self.explanation(usable)}")

    def explanation(self, usable: int) -> str:
        """The numbers, and what to change."""
        fitting = (usable - self.models) // max(self.sample, 1)
        advice = f"a batch_size of {fitting:,} fits" if fitting >= 1 else "take a smaller model"
        return (
            f"the models take about {_gigabytes(self.models)} and a batch of {self.batch_size:,} "
            f"{_gigabytes(self.batch)}, of {_gigabytes(usable)} that can be had: {advice}, or set fuse: off "
            "where models are trained together"
        )


def of_training(
    models: Sequence[nn.Module], training: TrainingSpec, inputs: torch.Tensor, dtype: torch.dtype, data: int
) -> Need:
    """What it takes to train models side by side.

    Args:
        models: of one shape.
        training: their schedule.
        inputs: a sample `[1, ...]` as the models take it.
        dtype: of the matrix products.
        data: bytes of the samples and soft labels.

    """
    weights = sum(map(_weights, models))
    best = weights if training.keep == "best" else 0
    # A gradient is no part of a checkpoint.
    state = weights * BESIDE_WEIGHTS[training.optimizer] + best
    return Need(
        data=data,
        models=weights + state + best + CHECKPOINT_COPIES * state,
        sample=len(models) * _kept_of_a_sample(models[0], inputs, dtype),
        batch_size=training.batch_size,
    )


def of_inference(model: nn.Module, inputs: torch.Tensor, batch_size: int, data: int) -> Need:
    """What it takes to run a model over samples in batches."""
    return Need(data, _weights(model), _kept_of_a_sample(model, inputs, torch.float32), batch_size)


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a device; on the CPU, of what this process may have."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_of_the_machine()


@contextmanager
def told_in_numbers(need: Need, device: torch.device) -> Iterator[None]:
    """Turn an allocation that fails after all into a stage's failure: to try again would fail again.

    Raises:
        StageFailed: memory ran out.

    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _ran_out(error):
            raise
        raise StageFailed(f"memory ran out on {device}: {need.explanation(free_bytes(device))}") from error


def _ran_out(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _weights(model: nn.Module) -> int:
    """Bytes of a model's parameters."""
    return sum(parameter.nbytes for parameter in model.parameters())


def _kept_of_a_sample(model: nn.Module, inputs: torch.Tensor, dtype: torch.dtype) -> int:
    """Bytes that a training step, or a forward pass, takes for one sample.

    Measured as what two samples more take, in eval mode, which leaves no trace in the model.
    """
    was_training = model.training
    model.eval()
    two, four = (_kept(model, inputs[:1].repeat(count, *[1] * (inputs.ndim - 1)), dtype) for count in (2, 4))
    model.train(was_training)
    sizes = [(more - less) // 2 for more, less in zip(four, two, strict=True)]
    return int(WORKSPACE * (sum(sizes) + 2 * max(sizes)))


def _kept(model: nn.Module, inputs: torch.Tensor, dtype: torch.dtype) -> list[int]:
    """Bytes of each tensor that a forward pass keeps, and of the logits."""
    seen: dict[int, torch.Tensor] = {}
    sizes: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = tensor  # Held, so that no other tensor comes to its place.
            sizes.append(storage.nbytes())
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast(inputs.device.type, dtype, enabled=dtype != torch.float32),
    ):
        logits = model(inputs)
    return [*sizes, logits.numel() * FLOAT]


def _free_of_the_machine() -> int:
    """Bytes that this process can have: of the machine, and of each control group that it is in."""
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min([free, *_free_of_control_groups()])


def _free_of_control_groups() -> Iterator[int]:
    """Bytes left in this process's control group and in those around it (version 2 of the interface)."""
    try:
        own = Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return
    folder = _CGROUPS / own
    for group in (folder, *folder.parents):
        if not group.is_relative_to(_CGROUPS):
            return
        try:
            limit, used = ((group / f"memory.{name}").read_text().strip() for name in ("max", "current"))
            cache = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            yield int(limit) - int(used) + int(cache.get("inactive_file", 0))


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB"
