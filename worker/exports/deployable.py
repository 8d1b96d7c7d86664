"""The deployable model: takes samples as they are stored, and normalises them itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import nn

from distill_queue.worker.data.split import Field, Split
from distill_queue.worker.exports.folding import fold
from distill_queue.worker.machine.inputs import through

#: Samples by the names of the model's inputs, `[samples, ...]` each.
RawInputs = dict[str, npt.NDArray[Any]]
#: What the input is called where there is one.
INPUT = "input"
OUTPUT = "logits"


@dataclass(frozen=True, slots=True)
class RawInput:
    """One input of a deployable model: bytes as they are, tokens int64, flags bool, other numbers float32."""

    name: str
    kind: torch.dtype
    #: Of one sample.
    shape: tuple[int, ...]
    #: What is taken off and what is divided by, of a channel each; none of what is not normalised.
    mean: torch.Tensor | None = None
    std: torch.Tensor | None = None

    def raw(self, stored: torch.Tensor) -> npt.NDArray[Any]:
        """Stored samples as the deployable model takes them."""
        return stored.to(self.kind).cpu().numpy()


def inputs_of(split: Split) -> tuple[RawInput, ...]:
    """The inputs that a deployable model has for the samples of a split."""
    if split.fields:
        return tuple(_of_field(name, each) for name, each in split.fields.items())
    shape = tuple(split.inputs.shape[1:])
    if split.tokens:
        return (RawInput(INPUT, torch.int64, shape),)
    kind = torch.uint8 if split.stored_as_bytes else torch.float32
    return (RawInput(INPUT, kind, shape, split.mean.cpu(), split.std.cpu()),)


def _of_field(name: str, each: Field) -> RawInput:
    shape = each.record.shape
    match each.record.kind:
        case "tokens":
            return RawInput(name, torch.int64, shape)
        case "flags":
            return RawInput(name, torch.bool, shape)
    kind = torch.uint8 if each.dtype == torch.uint8 else torch.float32
    return RawInput(name, kind, shape, each.mean.cpu(), each.std.cpu())


class Deployable(nn.Module):
    """A model with what comes before it: `[batch, ...]` of each raw input, in order, to logits `[batch, classes]`."""

    def __init__(self, model: nn.Module, inputs: tuple[RawInput, ...], *, named: bool) -> None:
        super().__init__()
        self.model = model
        self.inputs, self._named = inputs, named
        for each in inputs:
            if each.mean is not None:
                self.register_buffer(f"{each.name}_mean", each.mean)
                self.register_buffer(f"{each.name}_std", each.std)

    def forward(self, *raw: torch.Tensor) -> torch.Tensor:
        """Logits, float32."""
        taken = {each.name: self._normalised(each, values) for each, values in zip(self.inputs, raw, strict=True)}
        logits: torch.Tensor = through(self.model, taken if self._named else next(iter(taken.values())))
        return logits.float()

    def _normalised(self, each: RawInput, raw: torch.Tensor) -> torch.Tensor:
        if each.mean is None:
            return raw
        return (raw.float() - getattr(self, f"{each.name}_mean")) / getattr(self, f"{each.name}_std")


def deployable(model: nn.Module, split: Split) -> Deployable:
    """A trained model as it is exported, on the CPU and in eval mode; it is moved there, and its batch norms folded."""
    plain = model.cpu().to(memory_format=torch.contiguous_format).eval()
    fold(plain)
    return Deployable(plain, inputs_of(split), named=bool(split.fields)).eval()


def raw_batches(split: Split, inputs: tuple[RawInput, ...], batch_size: int) -> Iterator[RawInputs]:
    """The samples of a split in order, as deployable models take them."""
    for start in range(0, len(split), batch_size):
        stored = split.read(slice(start, min(start + batch_size, len(split))))
        if split.fields:
            yield {each.name: each.raw(split.fields[each.name].values(stored)) for each in inputs}
        else:
            yield {each.name: each.raw(stored) for each in inputs}


def example(inputs: tuple[RawInput, ...], samples: int) -> tuple[torch.Tensor, ...]:
    """Samples that are all zeros."""
    return tuple(torch.zeros(samples, *each.shape, dtype=each.kind) for each in inputs)
