"""Placement: how large the things in small images are, and where their middles lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

#: How far a pixel is from the background, as a share of white, to be part of the thing; less is noise.
LEAST_INK = 0.2
#: The least share of an image's border, over all images, that is background.
LEAST_BORDER = 0.7


@dataclass(frozen=True, slots=True)
class Placement:
    """Where things lie in images that show one each, on a background."""

    #: Pixels of a thing's longer side.
    side: int
    #: Row and column of a thing's middle, from the image's upper left corner: the mean over all images.
    middle: tuple[float, float]
    #: Which middle differs less from image to image: the centre of the ink's mass, or of the box around it.
    by: Literal["mass", "box"]
    #: Share of white.
    background: Literal[0, 1]

    @classmethod
    def of(cls, images: npt.NDArray[Any], white: float) -> Self | None:
        """The placement in images `[images, height, width]`; None where they have no black or white background."""
        shares = images.astype(np.float64) / white
        border = np.concatenate([shares[:, :1], shares[:, -1:], *(shares[:, None, 1:-1, at] for at in (0, -1))], axis=2)
        for background in (0, 1):
            if (np.abs(border - background) < LEAST_INK).mean() >= LEAST_BORDER:
                return cls._on(background, np.abs(shares - background))
        return None

    @classmethod
    def _on(cls, background: Literal[0, 1], ink: npt.NDArray[np.float64]) -> Self | None:
        boxes = [box for box in map(_box, ink) if box is not None]
        drawn = ink[[_box(each) is not None for each in ink]]
        if not boxes:
            return None
        sides = [max(bottom - top, right - left) for top, left, bottom, right in boxes]
        of_boxes = np.array([((top + bottom) / 2, (left + right) / 2) for top, left, bottom, right in boxes])
        rows, columns = (np.arange(size) + 0.5 for size in ink.shape[1:])
        mass = drawn.sum((1, 2))
        of_mass = np.stack([(drawn.sum(2) @ rows) / mass, (drawn.sum(1) @ columns) / mass], axis=1)
        by_mass = of_mass.std(0).sum() < of_boxes.std(0).sum()
        row, column = (of_mass if by_mass else of_boxes).mean(0)
        return cls(int(np.median(sides)), (float(row), float(column)), "mass" if by_mass else "box", background)

    @property
    def words(self) -> str:
        """How a drawing is placed, in words."""
        centre = "the centre of its mass" if self.by == "mass" else "its middle"
        return (
            f"A drawing is scaled until its longer side has {self.side} pixels, and moved until {centre} lies where "
            "that of the test samples does: the models know no others."
        )


def _box(ink: npt.NDArray[np.float64]) -> tuple[int, int, int, int] | None:
    """The first and last row and column with ink, as top, left, bottom, right; None where there is no ink."""
    rows, columns = np.flatnonzero((ink >= LEAST_INK).any(1)), np.flatnonzero((ink >= LEAST_INK).any(0))
    return (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1) if len(rows) else None
