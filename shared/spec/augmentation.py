"""What a spec says of views: what is done to the images that a model sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.part import SpecPart

#: Most operations of RandAugment one after the other; each has places among a sample's random numbers.
MOST_OPERATIONS = 8

#: For editors.
_TWO = Field(strict=False, json_schema_extra={"minItems": 2, "maxItems": 2})


def _ends(lowest: float, highest: float) -> AfterValidator:
    def check(ends: tuple[float, ...]) -> tuple[float, ...]:
        if len(ends) == 2 and lowest <= ends[0] <= ends[1] <= highest:
            return ends
        text = "input should be two numbers from {lowest} to {highest}, the smaller one first"
        raise PydanticCustomError("ends", text, {"lowest": lowest, "highest": highest})

    return AfterValidator(check)


@dataclass(frozen=True, slots=True)
class SampleFacts:
    """What views must know of samples."""

    #: As in `(channels, height, width)`.
    shape: tuple[int, ...]
    #: The names of a sample's inputs, where it has several.
    inputs: tuple[str, ...] = ()
    #: Whether the one input is of tokens.
    tokens: bool = False
    #: The value of white, if some pixels are not from 0 (black) to it.
    overstepped: float | None = None


class CropSpec(SpecPart):
    """A random resized crop: a rectangle of the image, stretched to the image's size."""

    area: Annotated[tuple[float, ...], _TWO, _ends(0.01, 1.0)] = (0.35, 1.0)
    """Smallest and largest area of the rectangle, as a share of the image's, from 0.01 to 1."""
    ratio: Annotated[tuple[float, ...], _TWO, _ends(0.1, 10.0)] = (0.75, 1.333)
    """Smallest and largest width of the rectangle, as a multiple of its height, from 0.1 to 10."""


class JitterSpec(SpecPart):
    """How far colours change at random: brightness first, then contrast, saturation and hue."""

    brightness: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest change of brightness: 0.4 multiplies pixels by 0.6 to 1.4."""
    contrast: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest change of contrast: 0.4 multiplies the distance from the image's mean grey by 0.6 to 1.4."""
    saturation: float = Field(default=0.0, ge=0.0, le=1.0)
    """Largest change of saturation: 0.4 multiplies the distance from each pixel's grey by 0.6 to 1.4."""
    hue: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest change of hue, as a share of the circle of colours, up or down; 0.5 reaches all of them."""

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.brightness or self.contrast or self.saturation or self.hue):
            raise PydanticCustomError("options", "give at least one of brightness, contrast, saturation and hue")
        return self


class RandAugmentSpec(SpecPart):
    """RandAugment (Cubuk et al. 2020): some of 14 operations on each image, chosen at random, all of one strength."""

    operations: int = Field(default=2, ge=1, le=MOST_OPERATIONS)
    """How many operations follow one another."""
    magnitude: int = Field(default=9, ge=0, le=30)
    """How strong they are, from 0 to 30."""


class AugmentationSpec(SpecPart):
    """What is done to an image, at random: each view of a sample is a pure function of (seed, view, sample)."""

    shift: int = Field(default=0, ge=0, le=64)
    """Largest shift in pixels, up, down, left or right; what comes in from outside is 0."""
    flip: bool = False
    """Whether half of the images are mirrored left to right."""
    cutout: int = Field(default=0, ge=0, le=256)
    """Side in pixels of a square that is set to 0; 0 leaves all."""
    mixup: float = Field(default=0.0, ge=0.0, le=0.5)
    """Largest share of another sample that is blended in, from 0 (none) to 0.5."""
    # What is new is left out where it has its default, so that messages, headers and fingerprints stay what they were.
    crop: CropSpec | None = Field(default=None, exclude_if=lambda crop: crop is None)
    """A random resized crop; none: the whole image."""
    rotation: float = Field(default=0.0, ge=0.0, le=180.0, exclude_if=lambda rotation: not rotation)
    """Largest rotation in degrees, either way; what comes in from outside is 0."""
    rand_augment: RandAugmentSpec | None = Field(default=None, exclude_if=lambda rand_augment: rand_augment is None)
    """Operations chosen at random; none: no such operation."""
    jitter: JitterSpec | None = Field(default=None, exclude_if=lambda jitter: jitter is None)
    """Random changes of colour; none: colours stay what they are."""
    grayscale: float = Field(default=0.0, ge=0.0, le=1.0, exclude_if=lambda grayscale: not grayscale)
    """Share of the images that lose their colours."""
    cutmix: float = Field(default=0.0, ge=0.0, le=1.0, exclude_if=lambda cutmix: not cutmix)
    """Largest share of the area that a rectangle of another sample takes, from 0 (none) to 1."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the random numbers that make the views."""

    @model_validator(mode="after")
    def _blends_in_one_way(self) -> Self:
        if self.mixup and self.cutmix:
            raise PydanticCustomError("options", "give either 'mixup' or 'cutmix'", {"key": "cutmix"})
        return self

    @property
    def changes_nothing(self) -> bool:
        """Whether every view is the sample as it is."""
        return not (self.needs_images or self.mixup)

    @property
    def blends(self) -> bool:
        """Whether another sample is blended into each."""
        return bool(self.mixup or self.cutmix)

    @property
    def needs_images(self) -> bool:
        """Whether samples must have rows and columns."""
        return bool(self.shift or self.flip or self.cutout) or self.is_new

    @property
    def needs_colours(self) -> str:
        """The first key that changes what only images of 3 channels have; empty where none does."""
        jitter = self.jitter
        keys = {
            "jitter.saturation": jitter and jitter.saturation,
            "jitter.hue": jitter and jitter.hue,
            "grayscale": self.grayscale,
        }
        return next((key for key, asked in keys.items() if asked), "")

    @property
    def needs_white(self) -> str:
        """The first key that changes pixels by what white is; empty where none does."""
        return next((key for key in ("jitter", "rand_augment") if getattr(self, key)), "")

    def misfit(self, sample: SampleFacts) -> tuple[str, str] | None:
        """Why samples have no such views, if so: the key that is to blame, empty for all of them, and the reason."""
        if self.changes_nothing:
            return None
        if sample.inputs:
            return "", f"a sample is {' and '.join(sample.inputs)}, which have no views together"
        if sample.tokens:
            return "", "the samples are tokens, which have no views"
        if self.needs_images and len(sample.shape) != 3:
            return "", f"samples of shape {sample.shape} are no images: only mixup is possible"
        if self.needs_colours and sample.shape[0] != 3:
            colours = f"samples of shape {sample.shape} have no colours: images of 3 channels have"
            return self.needs_colours, colours
        if self.needs_white and sample.overstepped is not None:
            pixels = f"pixels are to be from 0 (black) to {sample.overstepped:g} (white), and some are not"
            return self.needs_white, f"{pixels}: store them as bytes, or as numbers from 0 to 1"
        return None

    @property
    def is_new(self) -> bool:
        """Whether only workers that know stage format 6 make such views."""
        return bool(self.crop or self.rotation or self.rand_augment or self.jitter or self.grayscale or self.cutmix)
