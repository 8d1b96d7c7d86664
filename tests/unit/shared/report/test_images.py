"""Images of samples in a page."""

from __future__ import annotations

import numpy as np
import pytest

from distill_queue.shared.report.images import are_images, data_uris
from distill_queue.shared.results.records import DatasetRecord


@pytest.mark.parametrize(
    ("shape", "mean", "shown"),
    [
        ((1, 8, 8), (1.0,), True),
        ((3, 300, 200), (1.0,) * 3, True),
        ((2, 8, 8), (1.0,) * 2, False),
        ((64,), (1.0,), False),
        ((1, 8, 8), (), False),
    ],
)
def test_images_have_one_or_three_channels(shape: tuple[int, ...], mean: tuple[float, ...], shown: bool) -> None:
    dataset = DatasetRecord(
        shape=shape, class_names=("a", "b"), train_samples=1, labelled_samples=1, validation_samples=0,
        test_samples=1, mean=mean, std=mean,
    )  # fmt: skip

    assert are_images(dataset) == shown
    for dtype in (np.uint8, np.float32) if shown else ():
        (uri,) = data_uris(np.arange(np.prod(shape)).reshape(1, *shape).astype(dtype))
        assert uri.startswith("data:image/png;base64,")
        assert len(uri) < 60_000
