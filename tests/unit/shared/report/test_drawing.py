"""What figures of several sections share."""

from __future__ import annotations

import re
from importlib.resources import files

import numpy as np
import pytest

from distill_queue.shared.report.drawing import DARK


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_words_in_a_heat_map_can_be_read_at_every_shade(scheme: int) -> None:
    page = (files("distill_queue.shared.report") / "report.html").read_text()
    card, heat, on_pale, on_heat = (
        np.array([int(re.findall(rf"--{name}: #(\w{{6}})", page)[scheme][at : at + 2], 16) for at in (0, 2, 4)]) / 255
        for name in ("card", "heat", "on-pale", "on-heat")
    )

    def contrast(one: np.ndarray, other: np.ndarray) -> float:
        # WCAG 2.2, relative luminance.
        linear = [np.where(each <= 0.04045, each / 12.92, ((each + 0.055) / 1.055) ** 2.4) for each in (one, other)]
        dark, light = sorted(float(each @ [0.2126, 0.7152, 0.0722]) for each in linear)
        return (light + 0.05) / (dark + 0.05)

    for shade in np.linspace(0, 1, 201):
        assert contrast((1 - shade) * card + shade * heat, on_heat if shade > DARK else on_pale) >= 4.5, shade
