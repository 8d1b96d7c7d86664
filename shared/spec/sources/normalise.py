"""What a spec says of how inputs are normalised."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.part import SpecPart

Channels = Annotated[tuple[float, ...], Field(strict=False, min_length=1, max_length=4_096)]


class MeanAndDeviation(SpecPart):
    """What is taken off each channel, and what it is then divided by; of bytes, after a division by 255."""

    mean: Channels
    """Of each channel, or one of all."""
    std: Annotated[tuple[Annotated[float, Field(gt=0.0)], ...], Field(strict=False, min_length=1, max_length=4_096)]
    """Standard deviation of each channel, or one of all."""

    @model_validator(mode="after")
    def _as_many_of_each(self) -> Self:
        if len(self.mean) != len(self.std):
            raise PydanticCustomError(
                "options",
                "{means} means and {deviations} standard deviations",
                {"key": "std", "means": len(self.mean), "deviations": len(self.std)},
            )
        return self


#: `data` gives each channel of the training samples mean 0 and deviation 1; `imagenet` takes ImageNet's mean and
#: deviation of pixels from 0 to 1, `unit` divides bytes by 255, `none` does nothing.
NormaliseInputs = Annotated[
    Annotated[Literal["data", "imagenet", "unit", "none"], Tag("word")] | Annotated[MeanAndDeviation, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict | MeanAndDeviation) else "word"),
]
