"""Normalisation: what a given teacher's inputs are to be, where they are not to be what they are for models here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.sources.normalise import MeanAndDeviation, NormaliseInputs

#: Of red, green and blue from 0 to 1, as torchvision's models with weights of ImageNet take them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Stored values less a mean, divided by a deviation: of each channel, or one of all."""

    #: What a spec calls it, if it can.
    name: NormaliseInputs | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: As the end of a sentence about samples.
    words: str

    @classmethod
    def of(cls, name: NormaliseInputs, data: DatasetRecord, *, bytes_: bool = False) -> Self:
        """What a spec calls so.

        Args:
            name: as the spec has it: a name, or a mean and a deviation of pixels from 0 to 1, or of stored numbers.
            data: what the samples are.
            bytes_: whether they are stored as bytes, so that a mean and deviation are of values divided by 255.

        Raises:
            InvalidSpec: there is no such thing of these data.

        """
        if name == "data":
            return cls(name, data.mean, data.std, "as they are normalised here (mean 0, deviation 1 a channel)")
        if isinstance(name, MeanAndDeviation):
            return cls(name, *_stated_values(name, data, bytes_=bytes_), "with the mean and deviation that are given")
        if not data.mean:
            raise InvalidSpec(f"normalise: {name}: the inputs are tokens, or several, which are not normalised so")
        if name == "none":
            return cls(name, (0.0,), (1.0,), "as they are stored")
        largest = data.white
        pixels = "x" if largest == 1.0 else f"x / {largest:g}"
        if name == "unit":
            return cls(name, (0.0,), (largest,), f"as {pixels}")
        if len(data.mean) != len(IMAGENET_MEAN):
            raise InvalidSpec(f"normalise: imagenet is of 3 channels, and samples are of shape {data.shape}")
        mean, std = (tuple(largest * each for each in values) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return cls(name, mean, std, f"as {pixels} with ImageNet's mean and deviation")

    @classmethod
    def by_largest(cls, largest: float) -> Self:
        """What brings the largest value to 1."""
        return cls(None, (0.0,), (largest,), f"as x / {largest:g}")

    @property
    def values(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """What makes it another one than others: as x / 1 is x."""
        return self.mean, self.std

    def prepare(self, model: nn.Module, data: DatasetRecord, device: torch.device) -> RemovableHandle:
        """Have a model take samples `[batch, *shape]` as they are normalised here, and see them as they are here.

        A hook, no module around it: its weights keep their names, and what knows its layers knows them.
        """
        shape = (-1, *[1] * (len(data.shape) - 1))
        own_mean, own_std, mean, std = (
            torch.tensor(values, dtype=torch.float64).reshape(shape)
            for values in (data.mean, data.std, self.mean, self.std)
        )
        scale, shift = (each.float().to(device) for each in (own_std / std, (own_mean - mean) / std))

        def change(_model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            return (inputs[0] * scale + shift, *inputs[1:])

        return model.register_forward_pre_hook(change)


def stated(normalise: NormaliseInputs, data: DatasetRecord, *, bytes_: bool) -> DatasetRecord:
    """A data set whose inputs are to be normalised as a spec says, and not by their own mean and deviation.

    Args:
        normalise: what the spec says.
        data: with the mean and deviation of the training samples.
        bytes_: whether the inputs are stored as bytes, so that the largest value is 255.

    Raises:
        InvalidSpec: there is no such thing of these data.

    """
    if normalise == "data":
        return data
    if not data.mean:
        raise InvalidSpec("dataset.normalise: the inputs are tokens, or several, which are not normalised in one way")
    largest, channels = 255.0 if bytes_ else data.white, len(data.mean)
    data = data.model_copy(update={"largest": largest})
    if isinstance(normalise, MeanAndDeviation):
        mean, std = _stated_values(normalise, data, bytes_=bytes_)
    else:
        found = Normalisation.of(normalise, data)
        mean, std = found.mean, found.std
    each = 1 if len(mean) == channels else channels
    return data.model_copy(update={"mean": mean * each, "std": std * each})


def _stated_values(
    given: MeanAndDeviation, data: DatasetRecord, *, bytes_: bool
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """A mean and deviation that a spec states, on the scale on which the samples are stored."""
    if not data.mean:
        raise InvalidSpec("normalise: the inputs are tokens, or several, which are not normalised in one way")
    if len(given.mean) not in (1, len(data.mean)):
        raise InvalidSpec(f"normalise: {len(given.mean)} means, and samples of shape {data.shape}")
    scale = 255.0 if bytes_ else 1.0
    mean, std = (tuple(scale * each for each in values) for values in (given.mean, given.std))
    return mean, std


def prepared(
    model: nn.Module, name: NormaliseInputs, data: DatasetRecord, device: torch.device, *, bytes_: bool = False
) -> nn.Module:
    """Wrap a model so that it takes samples as they are normalised here, not as in its own training.

    Arguments as of `Normalisation.of`.

    Raises:
        InvalidSpec: there is no such thing of these data.

    """
    if name != "data":
        Normalisation.of(name, data, bytes_=bytes_).prepare(model, data, device)
    return model
