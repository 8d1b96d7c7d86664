"""What a spec says of a data set of Hugging Face's library `datasets`: on their hub, or in a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.augmentation import SampleFacts
from distill_queue.shared.spec.commit import REPOSITORY, Commit
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.sources.image_folder import Channels, OnBad, Resize, Size
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk, names_in
from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.shared.spec.sources.text import TrainedTokenizer

#: How the name of a data set on the hub begins in a spec.
ON_HUB = "huggingface/"

#: What is no part of a split's name in that of a file, as `validation-00000-of-00001.parquet`.
_WORDS = re.compile(r"[-.]")

#: A part of a data set, as specs call it.
Part = Literal["train", "validation", "test", "unlabelled"]
#: The names that splits have on the hub, by their part.
SPLIT_NAMES: dict[Part, tuple[str, ...]] = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
    "unlabelled": ("unlabelled", "unlabeled", "unsupervised"),
}


class ImageColumn(SpecPart):
    """The column that holds images, and how they become samples."""

    column: str = "image"
    """The name of the column."""
    size: Size
    """Pixels of a sample's sides, as 96, or `[height, width]`."""
    resize: Resize = "crop"
    """How an image gets this size: its middle is kept, black is added, or its sides are scaled one by one."""
    channels: Channels = 3
    """3 for colours, 1 for shades of grey."""
    on_bad: OnBad = "fail"
    """What to do about images that are damaged: name them and fail, or leave them out with a warning."""
    most_bad: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Share of the images that may be left out by `on_bad: skip`; of more, the stage fails."""


class TextColumn(SpecPart):
    """The column that holds texts, and how they become tokens."""

    column: str = "text"
    """The name of the column."""
    tokenizer: TrainedTokenizer = TrainedTokenizer()
    """How texts become tokens."""
    length: int = Field(default=128, ge=1, le=100_000)
    """Tokens of a sample: longer texts are cut off, shorter ones filled up."""


class HuggingFaceData(DataSource):
    """What of a data set of `datasets` is read: images or texts, and their classes."""

    part_held_out: ClassVar[str] = "a split validation"

    configuration: str | None = None
    """Which of the data set's configurations, where it has several."""
    image: ImageColumn | None = None
    """The images; either this or `text` is required."""
    text: TextColumn | None = None
    """The texts; a model gets them as two arguments, `ids` and `mask`."""
    target: str = "label"
    """The column that holds the class; a training row where it is missing or -1 has no label."""
    splits: dict[Part, str] = Field(default={})
    """The data set's splits by their part here, as `{test: validation}`; without it, those that are called so."""

    @property
    def may_hold_out(self) -> bool:
        """Whether samples may be held out: by a share, or by a split that only a worker sees."""
        return True

    @property
    def sample(self) -> SampleFacts:
        """The shape of an image, or the inputs of a text."""
        if self.image:
            return SampleFacts((self.image.channels, *self.image.size))
        return SampleFacts((), ("ids", "mask"))

    @model_validator(mode="after")
    def _images_or_texts(self) -> Self:
        if (self.image is None) == (self.text is None):
            raise PydanticCustomError(
                "options",
                "a data set of Hugging Face's has images or texts: say image: {{size: 96}} or text: {{length: 128}}",
                {"key": "text" if self.text else "image"},
            )
        if len(set(self.splits.values())) < len(self.splits):
            raise PydanticCustomError("options", "two parts are one split", {"key": "splits"})
        return self


def _on_hub(name: str) -> str:
    if not REPOSITORY.fullmatch(name.removeprefix(ON_HUB)):
        raise PydanticCustomError("hub", "is no name of a data set on the hub, as huggingface/owner/name")
    return name


class HuggingFaceHubSpec(HuggingFaceData):
    """A data set on Hugging Face's hub, at one of its commits, which workers download with the library `datasets`."""

    source: ClassVar[str] = "huggingface_hub"
    listed: ClassVar[dict[str, str]] = {
        f"{ON_HUB}<dataset>": "images or texts from Hugging Face's hub: revision: COMMIT, image: {size: 96} or text: {}"
    }

    name: Annotated[str, AfterValidator(_on_hub)]
    """`huggingface/` and what the hub calls it, as `huggingface/ylecun/mnist`."""
    revision: Commit
    """The hash of the commit, as the hub's page "Files and versions" shows it: a part of the key."""

    @property
    def called(self) -> str:
        """What the hub calls it."""
        return self.name.removeprefix(ON_HUB)

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether it begins as names of the hub do."""
        return name.startswith(ON_HUB)


class HuggingFaceFolderSpec(HuggingFaceData, SourceOnDisk):
    """A folder that `save_to_disk` of the library `datasets` wrote, or a copy of a data set on Hugging Face's hub."""

    source: ClassVar[str] = "huggingface"
    listed: ClassVar[dict[str, str]] = {
        "huggingface": "images or texts of Hugging Face's 'datasets' in a folder: path: reviews, text: {length: 128}"
    }

    name: Literal["huggingface"] = "huggingface"
    """A folder of `datasets`."""

    def holds_out_at(self, place: Path) -> bool:
        """Whether samples are held out of a folder: by a share, or by a split whose name its files or folders have."""
        if self.validation > 0.0:
            return True
        named = (self.splits["validation"],) if "validation" in self.splits else SPLIT_NAMES["validation"]
        there = {word for name in (*names_in(place), *names_in(place / "data")) for word in _WORDS.split(name)}
        return not there.isdisjoint(set(named).difference(self._of_other_parts))

    @property
    def _of_other_parts(self) -> set[str]:
        return {name for part, name in self.splits.items() if part != "validation"}
