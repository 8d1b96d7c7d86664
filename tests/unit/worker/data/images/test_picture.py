"""Pictures: what of an image's file becomes the pixels of a sample, whatever its format, mode and orientation."""

from __future__ import annotations

from io import BytesIO
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from distill_queue.worker.data.images.picture import Framing, NoPicture, pixels

Pixels = npt.NDArray[np.uint8]
SQUARE = Framing(8, 8, "squash", 3)


def file_of(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image.save(content := BytesIO(), kind, **options)
    return content.getvalue()


def corners(height: int = 40, width: int = 40) -> Image.Image:
    """Red, green, blue and grey quarters, from the upper left one on by rows."""
    values = np.empty((height, width, 3), np.uint8)
    up, left = slice(height // 2), slice(width // 2)
    values[:] = (90, 90, 90)
    values[height // 2 :, left] = (0, 0, 255)
    values[up] = (0, 255, 0)
    values[up, left] = (255, 0, 0)
    return Image.fromarray(values)


def smooth(height: int, width: int) -> Image.Image:
    """Something like a photograph: shades, edges and fine grain."""
    down, across = np.mgrid[:height, :width] / 40.0
    grain = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    waves = np.stack([np.sin(down), np.cos(across), np.sin(down + across)], axis=2) * 60 + 120
    edges = ((down.astype(int) + across.astype(int)) % 2)[..., None] * 40
    return Image.fromarray((waves + edges + grain).clip(0, 255).astype(np.uint8))


def quarters(sample: Pixels) -> list[list[int]]:
    """The pixel in the middle of each quarter."""
    height, width = sample.shape[1:]
    places = [(height // 4, width // 4), (height // 4, -width // 4), (-height // 4, width // 4)]
    return [sample[:, down, across].tolist() for down, across in [*places, (-height // 4, -width // 4)]]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_every_format_is_read_and_channels_come_first(kind: str) -> None:
    sample = pixels(file_of(corners(), kind), Framing(16, 24, "squash", 3))

    assert (sample.shape, sample.dtype) == ((3, 16, 24), np.uint8)
    expected = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [90, 90, 90]]
    assert np.abs(np.array(quarters(sample)) - expected).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_of_a_png_becomes_8_bits_a_channel(mode: str, channels: Literal[1, 3]) -> None:
    expected = 255 if mode == "1" else 200
    if mode == "I;16":
        image = Image.fromarray(np.full((9, 9), expected * 256 + 17, np.uint16))
    else:
        image = Image.new("RGB", (9, 9), (expected,) * 3).convert(mode, palette=Image.Palette.ADAPTIVE)

    sample = pixels(file_of(image), Framing(4, 4, "crop", channels))

    assert sample.shape == (channels, 4, 4)
    assert set(sample.ravel().tolist()) <= {expected - 1, expected, expected + 1}


def test_a_jpeg_for_print_is_read_in_its_colours() -> None:
    sample = pixels(file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"), SQUARE)

    assert np.abs(sample[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    image = Image.new("RGBA", (16, 16), (10, 10, 10, 0))
    options = {}
    if mode == "P":
        image, options = Image.new("P", (16, 16), 0), {"transparency": 0}

    assert set(pixels(file_of(image if mode == "P" else image.convert(mode), **options), SQUARE).ravel()) == {255}


def test_of_an_animation_the_first_image_is_taken() -> None:
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255)))

    for kind in ("GIF", "WEBP"):
        sample = pixels(file_of(first, kind, save_all=True, append_images=[second]), SQUARE)
        assert sample[0].min() > 240
        assert sample[2].max() < 15


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_as_its_camera_was_held(orientation: int, kind: str) -> None:
    # What a camera writes is the upright image turned back.
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    upright = corners(32, 64)
    written = upright.transpose(back[orientation]) if orientation in back else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    sample = pixels(file_of(written, kind, exif=exif), Framing(16, 32, "crop", 3))

    assert np.abs(np.array(quarters(sample)) - quarters(pixels(file_of(upright), Framing(16, 32, "crop", 3)))).max() < 9


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_an_image_as_it_is() -> None:
    sample = pixels(file_of(corners(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), SQUARE)

    assert sample[0, 1, 1] > 240


@pytest.mark.parametrize(("height", "width"), [(30, 90), (90, 30)])
def test_crop_keeps_the_middle_pad_keeps_all_on_black_and_squash_scales(height: int, width: int) -> None:
    values = np.zeros((height, width), np.uint8)
    middle = tuple(slice((side - 30) // 2, (side + 30) // 2) for side in (height, width))
    values[...] = 100
    values[middle] = 200
    content = file_of(Image.fromarray(values))

    crop, pad, squash = (pixels(content, Framing(30, 30, way, 1))[0] for way in ("crop", "pad", "squash"))  # type: ignore[arg-type]

    assert set(crop.ravel()) == {200}
    along = pad if height > width else pad.T
    assert set(along[:, :10].ravel()) == set(along[:, 20:].ravel()) == {0}
    assert (along[15, 15], along[3, 15], along[26, 15]) == (200, 100, 100)
    line = squash[:, 15] if height > width else squash[15]
    assert (line[2], line[15], line[27]) == (100, 200, 100)
    assert (squash > 0).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (2000, 3)])
@pytest.mark.parametrize("way", ["crop", "pad", "squash"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_of_any_sides_becomes_a_sample_of_the_wanted_ones(
    size: tuple[int, int], way: Literal["crop", "pad", "squash"], kind: str
) -> None:
    assert pixels(file_of(Image.new("RGB", size), kind), Framing(7, 5, way, 3)).shape == (3, 7, 5)


@pytest.mark.parametrize("size", [(375, 500), (600, 800), (768, 768), (301, 997)])
def test_a_jpeg_that_is_decoded_smaller_looks_as_the_whole_image_made_smaller(size: tuple[int, int]) -> None:
    content = file_of(smooth(*size), "JPEG", quality=85)
    whole = file_of(Image.open(BytesIO(content)))

    for side in (48, 96):
        framing = Framing(side, side, "crop", 3)
        difference = pixels(content, framing).astype(int) - pixels(whole, framing)
        assert np.abs(difference).mean() < 1.0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"^is empty$"),
        (b"not an image", r"^is no image that can be read$"),
        (file_of(smooth(60, 60), "JPEG")[:900], r"^is damaged: .*[Tt]runcated"),
        (file_of(smooth(60, 60), "PNG")[:900], r"^is damaged: .*[Tt]runcated"),
        (file_of(smooth(60, 60), "WEBP")[:300], r"^is damaged|^is no image"),
        (file_of(smooth(60, 60), "BMP")[:900], r"^is damaged: .*[Tt]runcated"),
        (file_of(smooth(60, 60), "GIF")[:900], r"^is damaged: .*[Tt]runcated"),
        (file_of(smooth(60, 60), "TIFF"), r"^is no image that can be read$"),
    ],
)
def test_a_bad_file_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(NoPicture, match=reason):
        pixels(content, SQUARE)


def test_an_image_that_claims_more_pixels_than_pillow_opens_is_refused() -> None:
    content = bytearray(file_of(Image.new("1", (8, 8)), "BMP"))
    content[18:26] = (60_000).to_bytes(4, "little") * 2

    with pytest.raises(NoPicture, match=r"^has more pixels than can be right$"):
        pixels(bytes(content), SQUARE)
