"""Pictures: the content of an image's file as the pixels of a sample."""

from __future__ import annotations

import math
from dataclasses import dataclass
from io import BytesIO
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from distill_queue.shared.line import first_line, shortened
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.machine import memory

#: What is read; a file's content decides, not its name. TIFF and others could hold several images or other numbers.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
#: A JPEG's decoder leaves out what is too fine to be seen, if its image stays this much larger than the sample: then
#: the exact filter has something left to do. Samples differ from those of the whole image by about 0.5 of 255 levels.
FINER = 1.5
#: Characters of what a library says of a bad file.
LONGEST_REASON = 100

#: EXIF's number of its orientation, and what makes an image of each one upright.
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: From this orientation on, width and height change places.
_FIRST_ON_ITS_SIDE = 5


class NoPicture(ValueError):
    """A file's content is no image, or is damaged; the message says what."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How an image becomes a sample `[channels, height, width]`, uint8."""

    height: int
    width: int
    resize: Literal["crop", "pad", "squash"]
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of a sample."""
        return self.channels, self.height, self.width

    @property
    def on_its_side(self) -> Framing:
        """The same for an image whose width is its height."""
        return Framing(self.width, self.height, self.resize, self.channels)


def pixels(content: bytes, framing: Framing) -> npt.NDArray[np.uint8]:
    """The sample `[channels, height, width]` that is in a file.

    The image is turned as its EXIF orientation says, lies on white where it is transparent, and has 8 bits a channel:
    of 16 the upper ones. Its size is changed by Pillow's bilinear filter, whose support grows with the step, so that
    nothing fine turns into a pattern. Colour profiles are not applied; of several images the first one is taken.

    Raises:
        NoPicture: it is no image, damaged, or has more pixels than Pillow opens.

    """
    try:
        with Image.open(BytesIO(content), formats=FORMATS) as image:
            orientation = _orientation(image)
            upright = framing.on_its_side if orientation >= _FIRST_ON_ITS_SIDE else framing
            framed = _framed(image, upright)
    except Exception as error:  # Of damaged files, Pillow's decoders raise errors of any kind.
        if memory.is_short(error):
            raise
        raise NoPicture(_reason(content, error)) from error
    if orientation in _UPRIGHT:
        framed = framed.transpose(_UPRIGHT[orientation])
    values = np.asarray(framed)
    return np.ascontiguousarray(values[None] if framing.channels == 1 else values.transpose(2, 0, 1))


def _orientation(image: Image.Image) -> int:
    """EXIF's number of how the camera was held; 1 where the image says nothing that can be read."""
    try:
        number = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Its EXIF is damaged: the pixels need not be.
        return 1
    return number if number in _UPRIGHT else 1


def _framed(image: Image.Image, framing: Framing) -> Image.Image:
    """An image in the size and the colours of a sample."""
    size, mode = (framing.width, framing.height), "RGB" if framing.channels == 3 else "L"
    across, down = size[0] / image.width, size[1] / image.height
    scales = {"crop": max(across, down), "pad": min(across, down)}
    scale = scales.get(framing.resize)
    whole = size if scale is None else (image.width * scale, image.height * scale)
    inside = (max(1, round(whole[0])), max(1, round(whole[1]))) if framing.resize == "pad" else size
    drafted = image.draft(None, (math.ceil(FINER * whole[0]), math.ceil(FINER * whole[1])))
    # A side of 301 pixels at a quarter of its size ends within the last of 76.
    right, bottom = drafted[1][2:] if drafted else (float(image.width), float(image.height))
    image.load()
    left, top = 0.0, 0.0
    if framing.resize == "crop":
        kept = min(right / size[0], bottom / size[1])
        left, top = (right - kept * size[0]) / 2, (bottom - kept * size[1]) / 2
        right, bottom = min(right, left + kept * size[0]), min(bottom, top + kept * size[1])
    framed = _plain(image).resize(inside, Image.Resampling.BILINEAR, (left, top, right, bottom)).convert(mode)
    if framing.resize != "pad":
        return framed
    padded = Image.new(mode, size)
    padded.paste(framed, ((size[0] - inside[0]) // 2, (size[1] - inside[1]) // 2))
    return padded


def _plain(image: Image.Image) -> Image.Image:
    """An image of 8 bits a channel, grey or RGB, on white."""
    if image.mode.startswith("I"):
        values: Array = np.asarray(image)
        return Image.fromarray((values >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _reason(content: bytes, error: Exception) -> str:
    if not content:
        return "is empty"
    if isinstance(error, UnidentifiedImageError):
        return "is no image that can be read"
    if isinstance(error, Image.DecompressionBombError):
        return "has more pixels than can be right"
    return f"is damaged: {shortened(first_line(error), LONGEST_REASON)}"
