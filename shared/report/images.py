"""Images of samples, encoded for an HTML page."""

from __future__ import annotations

import base64
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.image import imsave

from distill_queue.shared.results.records import DatasetRecord

#: Longest side in pixels; of larger images only every second, third … pixel is kept.
LONGEST = 96


def are_images(dataset: DatasetRecord) -> bool:
    """Whether a data set's samples can be shown: as `[channels, height, width]` with one or three channels."""
    return not dataset.tokens and len(dataset.shape) == 3 and dataset.shape[0] in (1, 3)


def data_uris(samples: npt.NDArray[Any]) -> list[str]:
    """Images `[samples, channels, height, width]` as PNG data URIs."""
    step = -(-max(samples.shape[2:]) // LONGEST)
    kept = _stretched(samples[:, :, ::step, ::step].astype(np.float64))
    return [_data_uri(image) for image in np.broadcast_to(kept, (len(kept), 3, *kept.shape[2:]))]


def _stretched(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Numbers as bytes, from 0 for the smallest of all samples to 255 for the largest."""
    low, high = samples.min(), samples.max()
    return (255 * (samples - low) / max(high - low, 1e-300)).astype(np.uint8)


def _data_uri(image: npt.NDArray[np.uint8]) -> str:
    png = BytesIO()
    imsave(png, image.transpose(1, 2, 0), format="png")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
