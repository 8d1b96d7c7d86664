"""What a spec says of a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, JsonValue
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.augmentation import SampleFacts
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk, names_in

#: How the names of files end that are taken for images. What is in them decides how they are read.
IMAGE_SUFFIXES = (".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".png", ".webp")
#: What the folders of splits may be called, in small letters or large ones.
SPLITS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation",
    "test": "test", "testing": "test",
    "unlabelled": "unlabelled", "unlabeled": "unlabelled",
}  # fmt: skip
#: Most pixels of a sample's side.
LARGEST_SIDE = 4_096


def _a_size(value: Any) -> Any:
    """A side or two sides as two sides."""
    sides = (value, value) if isinstance(value, int) else value
    right = isinstance(sides, list | tuple) and len(sides) == 2
    if not right or not all(type(side) is int and 1 <= side <= LARGEST_SIDE for side in sides):
        raise PydanticCustomError(
            "size",
            "is a number of pixels from 1 to {most}, as 96, or [height, width]",
            {"most": f"{LARGEST_SIDE:,}"},
        )
    return tuple(sides)


_SIDE: JsonValue = {"type": "integer", "minimum": 1, "maximum": LARGEST_SIDE}
_SIZES: dict[str, JsonValue] = {"anyOf": [_SIDE, {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2}]}

#: What any source of images says of how they become samples.
Size = Annotated[tuple[int, int], BeforeValidator(_a_size, json_schema_input_type=Any), Field(json_schema_extra=_SIZES)]
Resize = Literal["crop", "pad", "squash"]
Channels = Literal[1, 3]
OnBad = Literal["fail", "skip"]


class ImageFolderSpec(SourceOnDisk):
    """JPEG, PNG, WebP, BMP and GIF files in `train/<class>/`, `test/<class>/`, `validation/<class>/` and `unlabelled/`.

    All but `train/` may be absent: without `test/` a fixed fifth of every class is kept for testing. Without `train/`
    the classes' folders lie directly in the path. `validation/` holds the held-out samples.
    """

    source: ClassVar[str] = "image_folder"
    listed: ClassVar[dict[str, str]] = {"image_folder": "images of your own, a folder a class: path: photos, size: 96"}

    part_held_out: ClassVar[str] = "a folder validation"
    wanted: ClassVar[str] = f"images, {' '.join(IMAGE_SUFFIXES)}"

    name: Literal["image_folder"] = "image_folder"
    """A folder of images."""
    size: Size
    """Pixels of a sample's sides, as 96, or `[height, width]`."""
    resize: Resize = "crop"
    """How an image gets this size: its middle is kept, black is added, or its sides are scaled one by one."""
    channels: Channels = 3
    """3 for colours, 1 for shades of grey."""
    on_bad: OnBad = "fail"
    """What to do about files that are no images or damaged: name them and fail, or leave them out with a warning."""
    most_bad: float = Field(default=0.01, ge=0.0, lt=1.0)
    """Share of the files that may be left out by `on_bad: skip`; of more, the stage fails."""

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether a file is taken for an image, by the end of its name."""
        return name.lower().endswith(IMAGE_SUFFIXES)

    @property
    def may_hold_out(self) -> bool:
        """Whether samples may be held out: by a share, or by a folder that only a worker sees."""
        return True

    @property
    def sample(self) -> SampleFacts:
        """The shape of its images."""
        return SampleFacts((self.channels, *self.size))

    def holds_out_at(self, place: Path) -> bool:
        """Whether samples are held out of a folder: by a share, or by a folder of its own."""
        return self.validation > 0.0 or any(SPLITS.get(name.lower()) == "validation" for name in names_in(place))
