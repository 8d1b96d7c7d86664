"""Marks: hashes of tensors, by which two tensors are compared without keeping copies of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import xxhash
from torch import nn

from distill_queue.worker.models.weights import tensors

#: Share of a tensor's norm by which it may differ on a GPU, some of whose kernels add in any order (torch warns then).
GPU_ROUNDING = 0.05


@dataclass(frozen=True, slots=True)
class Mark:
    """What is kept of a tensor to compare it with another one: copies would take the memory of several models."""

    shape: torch.Size
    dtype: torch.dtype
    #: Hash of its bytes, all that is not a number as one; of floating point numbers on a GPU they lie on the CPU.
    values: str | torch.Tensor

    def same(self, other: Mark) -> bool:
        """Whether it has the same values as another one; on a GPU, about the same."""
        if (self.shape, self.dtype) != (other.shape, other.dtype):
            return False
        if isinstance(self.values, str) or isinstance(other.values, str):
            return isinstance(self.values, str) and self.values == other.values
        one, another = self.values, other.values
        if one.isfinite().all() and another.isfinite().all():
            return bool((one - another).norm() <= GPU_ROUNDING * one.norm())
        return bool(((one == another) | (one.isnan() & another.isnan())).all())


def mark(tensor: torch.Tensor) -> Mark:
    """The mark of a tensor as it is now."""
    values = tensor.detach().cpu()
    if tensor.is_floating_point():
        if tensor.is_cuda:
            return Mark(values.shape, values.dtype, values)
        if (nothing := values.isnan()).any():
            values = values.masked_fill(nothing, torch.nan)
    digest = xxhash.xxh3_128_hexdigest(values.contiguous().flatten().view(torch.uint8).numpy().data)
    return Mark(values.shape, values.dtype, digest)


def state_of(model: nn.Module) -> dict[str, Mark]:
    """Marks of all parameters and buffers by name, including buffers that are not saved."""
    return {name: mark(tensor) for name, tensor in tensors(model)}


def difference(one: dict[str, Mark], other: dict[str, Mark]) -> str:
    """The first name in which two sets of tensors differ; nothing where they are the same."""
    if one.keys() != other.keys():
        return min(one.keys() ^ other.keys())
    return next((name for name in one if not one[name].same(other[name])), "")
