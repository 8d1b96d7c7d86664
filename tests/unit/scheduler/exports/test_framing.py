"""Images in `predict.py`, beside those that a student learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

from distill_queue.scheduler.exports.programs import FRAMINGS
from distill_queue.scheduler.exports.template import filled
from distill_queue.worker.data.images.picture import Framing, pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_an_image_gets_the_pixels_that_it_would_have_had_in_training(
    resize: Literal["crop", "pad", "squash"], channels: Literal[1, 3], tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (31, 47, 4), np.uint8)  # Partly transparent.
    Image.fromarray(picture).save(path := tmp_path / "picture.png")
    call, words = FRAMINGS[resize]
    text = filled(
        "predict/images.py", file="model.onnx", shape=(channels, 12, 16), dtype="uint8", framing_in_words=words,
        mode="L" if channels == 1 else "RGB", framing=call.format(size=(16, 12)), scaled="pixels.astype(np.uint8)",
    )  # fmt: skip
    program: dict[str, Any] = {"__name__": "predict", "__file__": str(tmp_path / "predict.py")}
    exec(compile(text, "predict.py", "exec"), program)

    read = program["read"](str(path))["input"]

    wanted = pixels(path.read_bytes(), Framing(12, 16, resize, channels))
    assert read.shape == (1, *wanted.shape)
    assert np.abs(read[0].astype(int) - wanted).max() <= 2  # Shades of grey are rounded before the size changes.
