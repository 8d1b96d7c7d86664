"""Memory: estimates what a stage will take on its device, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.line import first_line
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.shared.text import said
from distill_queue.worker.machine.inputs import Inputs, each, first, tensors, through

#: Share of the free memory that a stage plans with; the rest is for what no estimate knows, like libraries' workspace.
USABLE = 0.9
#: Bytes of a float32.
FLOAT = 4
#: Tensors of the weights' size that an optimiser keeps.
OPTIMIZER_STATE = {"adam": 2, "adamw": 2, "sgd": 1}
#: Words in the errors of allocators.
RAN_OUT = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
#: Where torch goes on, in the error of a card, to advise on its own settings.
DETAILS = ". GPU "
#: How many times as much memory a training's batch takes as the tensors that are kept of it: kernels copy tensors into
#: other layouts, and hold gradients (measured on convolutions: 0.8 to 2.5, as freed memory is used again or not).
WORKSPACE = 1.5
#: What to do where not even one sample fits.
SMALLER_MODEL = "take a smaller model"
#: How many tensors of the largest size a forward pass holds at once.
FORWARD_COPIES = 3
#: Copies of the state that are held while a checkpoint is written, by the CPU.
CHECKPOINT_COPIES = 2

_MEMINFO = Path("/proc/meminfo")
_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes that a stage takes at its peak, beside what its process holds already, such as its models' weights."""

    #: Samples and soft labels, which take nothing if they are streamed.
    data: int
    #: Gradients, the optimiser's state, the best weights so far, and a checkpoint being written.
    models: int
    #: One sample in the models.
    sample: int
    batch_size: int

    @property
    def batch(self) -> int:
        """Bytes of one batch in the models."""
        return self.sample * self.batch_size

    @property
    def total(self) -> int:
        """Bytes of data, models and a batch together."""
        return self.data + self.models + self.batch

    def beside(self, teacher: nn.Module, inputs: Inputs, members: int) -> Need:
        """The same with a teacher that answers in each step, for so many members' batches of samples `[1, ...]`."""
        answer = FORWARD_COPIES * _of_a_sample(teacher, inputs, torch.float32).largest
        return replace(self, sample=self.sample + members * answer)

    def streams(self, free: int) -> bool:
        """Whether the data have to be streamed, as there is no room for all of them.

        Raises:
            StageFailed: even without the data there is no room; the message has the numbers, and what to change.

        """
        usable = int(free * USABLE)
        if self.total <= usable:
            return False
        if self.models + self.batch <= usable:
            return True
        raise StageFailed(f"not enough memory: {self.explanation(free)}")

    def explanation(self, free: int) -> str:
        """The numbers in words, and what to change."""
        fitting = (int(free * USABLE) - self.models) // max(self.sample, 1)
        return self._in_words(free, f"a batch_size of {fitting:,} fits" if fitting >= 1 else SMALLER_MODEL)

    def explanation_after_all(self, free: int) -> str:
        """The same where memory ran out though there was room for the estimate, which is thus no guide to a batch."""
        half = self.batch_size // 2
        advice = f"try a batch_size of {half:,}" if half else SMALLER_MODEL
        return self._in_words(free, f"another process may use the memory as well; {advice}")

    def _in_words(self, free: int, advice: str) -> str:
        usable = int(free * USABLE)
        return (
            f"the models take about {_gigabytes(self.models)} and a batch of {self.batch_size:,} "
            f"{_gigabytes(self.batch)}, of {_gigabytes(usable)} that can be had: {advice}; with fuse: off models are "
            "trained one by one"
        )


def of_training(
    models: Sequence[nn.Module],
    training: TrainingSpec,
    inputs: Inputs,
    dtype: torch.dtype,
    data: int,
    *,
    joined: bool = False,
    frozen: frozenset[str] = frozenset(),
) -> Need:
    """The memory that training models side by side takes.

    Args:
        models: of one shape, on the device.
        training: their schedule.
        inputs: a sample `[1, ...]` as the models take it.
        dtype: of the matrix products.
        data: bytes of the samples and soft labels.
        joined: whether the last batch has a sample more than the others.
        frozen: names of parameters that have no gradient and no state of the optimiser.

    """
    weights, trained = sum(map(_weights, models)), sum(_weights(model, frozen) for model in models)
    optimizer = OPTIMIZER_STATE[training.optimizer] if training.momentum else 0
    kept_beside = (training.keep == "best") + (training.ema_decay is not None)
    # One for the gradients.
    state = trained * (1 + optimizer) + weights * kept_beside
    # A checkpoint holds the weights in place of the gradients; or both, within a step.
    saved = state + weights - trained + (trained if training.accumulate > 1 else 0)
    checkpoint = CHECKPOINT_COPIES * saved if first(inputs).device.type == "cpu" else 0
    kept = _of_a_sample(models[0], inputs, dtype)
    sample = int(WORKSPACE * len(models) * (kept.total + 2 * kept.largest))
    return Need(data, state + checkpoint, sample, training.batch_size + joined)


def of_inference(model: nn.Module, inputs: Inputs, data: int, free: int, largest_batch: int) -> Need:
    """The memory that a model takes over samples, in the largest batches that fit: a power of two of samples."""
    sample = FORWARD_COPIES * _of_a_sample(model, inputs, torch.float32).largest
    fitting = int(free * USABLE) // max(sample, 1)
    return Need(data, 0, sample, min(largest_batch, 1 << max(0, fitting.bit_length() - 1)))


def free_bytes(device: torch.device) -> int:
    """Bytes that are free on a device; for the CPU, the bytes that this process can still have."""
    if device.type == "cpu":
        return _free_of_the_machine()
    # Memory that torch keeps from earlier stages is as good as free.
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + kept


def is_short(error: BaseException) -> bool:
    """Whether an error says that memory ran out: Python's own, or one of torch's allocators."""
    allocators = isinstance(error, RuntimeError) and any(words in said(error) for words in RAN_OUT)
    return allocators or isinstance(error, MemoryError)


@contextmanager
def running_out_fails(explanation: str) -> Iterator[None]:
    """Turn an allocation that fails in spite of the estimate into a stage's failure: another try would fail again.

    Raises:
        StageFailed: memory ran out.

    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_short(error):
            raise
        words = first_line(error).partition(DETAILS)[0]
        raise StageFailed(f"memory ran out ({words}): {explanation}") from error


@dataclass(frozen=True, slots=True)
class _Sample:
    """Bytes that a forward pass keeps of one sample for the backward pass, and those of its largest tensor."""

    total: int
    largest: int


def _of_a_sample(model: nn.Module, inputs: Inputs, dtype: torch.dtype) -> _Sample:
    """The memory of one sample: half the difference of four and two samples, in eval mode, which changes no buffer."""
    was_training = model.training
    model.eval()
    two, four = (_kept(model, each(inputs, partial(_repeated, count=count)), dtype) for count in (2, 4))
    model.train(was_training)
    return _Sample(max(sum(four) - sum(two), 0) // 2, max(max(four) - max(two), 0) // 2)


def _repeated(samples: torch.Tensor, count: int) -> torch.Tensor:
    """The first sample so many times."""
    return samples[:1].repeat(count, *[1] * (samples.ndim - 1))


def _kept(model: nn.Module, inputs: Inputs, dtype: torch.dtype) -> list[int]:
    """Bytes of each tensor that a forward pass keeps, of the inputs, and of the logits."""
    seen: dict[int, torch.UntypedStorage] = {}
    sizes = [tensor.nbytes for tensor in tensors(inputs)]

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in seen:
            seen[storage.data_ptr()] = storage  # Held, so that no other tensor gets its address.
            sizes.append(storage.nbytes())
        # Detached, as autograd's record of the pass would else hold itself, and stay.
        return tensor.detach()

    with (
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast(first(inputs).device.type, dtype, enabled=dtype != torch.float32),
    ):
        logits: torch.Tensor = through(model, inputs)
    return [*sizes, logits.numel() * FLOAT]


def _weights(model: nn.Module, without: frozenset[str] = frozenset()) -> int:
    """Bytes of a model's parameters, without some by name."""
    return sum(parameter.nbytes for name, parameter in model.named_parameters() if name not in without)


def _free_of_the_machine() -> int:
    """Bytes that this process can have: the least of the machine's and of each control group's that it is in."""
    lines = dict(line.split(":", 1) for line in _MEMINFO.read_text("ascii").splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    return min([free, *_free_of_control_groups()])


def _free_of_control_groups() -> Iterator[int]:
    """Bytes left in this process's control group and in those around it (version 2 of the interface)."""
    try:
        own = Path("/proc/self/cgroup").read_text("utf-8", "surrogateescape").rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return
    folder = _CGROUPS / own
    for group in (folder, *folder.parents):
        if not group.is_relative_to(_CGROUPS):
            return
        try:
            limit, used = ((group / f"memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
            cache = dict(line.split() for line in (group / "memory.stat").read_text("ascii").splitlines())
        except (OSError, ValueError):
            continue
        if limit != "max":
            yield int(limit) - int(used) + int(cache.get("inactive_file", 0))


def _gigabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:,.2f} GB"
