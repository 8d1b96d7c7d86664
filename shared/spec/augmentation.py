"""What a spec says of views: what is done to the images that a model sees."""

from __future__ import annotations

from pydantic import Field

from distill_queue.shared.spec.part import SpecPart


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
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the random numbers that make the views."""

    @property
    def changes_nothing(self) -> bool:
        """Whether every view is the sample as it is."""
        return not (self.shift or self.flip or self.cutout or self.mixup)
