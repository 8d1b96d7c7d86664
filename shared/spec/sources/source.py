"""What is known of every source of data, and what may be said of all of them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_queue.shared.spec.augmentation import SampleFacts
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.sources.normalise import NormaliseInputs


class Named(SpecPart):
    """What has a name, which is written first: the order of fields is part of a manifest's checksum."""

    # Each source's own field narrows it.
    name: str


class DataSource(Named):
    """A source of data: a subclass has its options as fields, and stands in `shared.spec.dataset`."""

    #: Tells its spec from those of other sources.
    source: ClassVar[str]
    #: The names that a spec may give, each with what it is, as `distill datasets` lists them.
    listed: ClassVar[dict[str, str]]
    #: What holds the held-out samples in a folder, if something can.
    part_held_out: ClassVar[str] = ""

    version: str = "1"
    """Part of the key: change it when the data change without anything else in the spec."""
    validation: float = Field(default=0.0, ge=0.0, le=0.5)
    """Share of the training samples held out, evenly over the classes, to choose epochs and grid points by."""
    own_validation: Annotated[Literal["refuse", "take"], Field(exclude_if=lambda own: own == "refuse")] = "refuse"
    """Whether held-out samples that the data bring are an error where `validation` is a share, or are taken instead."""
    labelled: int | None = Field(default=None, ge=1)
    """How many training samples keep their label, evenly over the classes; the others only carry soft labels."""

    normalise: Annotated[NormaliseInputs, Field(exclude_if=lambda normalise: normalise == "data")] = "data"
    """`data`: mean 0 and deviation 1 a channel; `imagenet`: its mean and deviation; `unit`: bytes by 255; or `none`."""

    @property
    def called(self) -> str:
        """What it is called in titles and messages."""
        return self.name

    @property
    def may_hold_out(self) -> bool:
        """Whether samples may be held out, to choose by."""
        return self.validation > 0.0

    @property
    def refuses_own_validation(self) -> bool:
        """Whether it is an error if the data hold out samples of their own."""
        return self.validation > 0.0 and self.own_validation == "refuse"

    @property
    def sample(self) -> SampleFacts | None:
        """What views must know of its samples; None where that is not known before the data are read."""
        return None

    @property
    def known_classes(self) -> tuple[str, ...]:
        """The classes' names in the order of their numbers; none where they are not known before the data are read."""
        return ()

    @property
    def without_held_out(self) -> str:
        """That it holds out no samples, and the way out, as the end of a sentence."""
        part = f", or add {self.part_held_out}" if self.part_held_out else ""
        return f"{self.called} has none: set dataset.validation to their share, as 0.1{part}"

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a data set of this name is of this source."""
        return name in cls.listed
