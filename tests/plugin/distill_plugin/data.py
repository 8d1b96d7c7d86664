"""Points on two rings: which one is it?"""

from __future__ import annotations

from typing import Any

import numpy as np


def rings(radii: list[float], samples: int = 400) -> dict[str, Any]:
    """Points `[samples, 2]` on rings around 0, a quarter of them for testing; the class is the ring."""
    generator = np.random.default_rng(0)
    targets = generator.permutation(np.arange(samples) % len(radii))
    angle = generator.uniform(0, 2 * np.pi, samples)
    inputs = (np.array(radii)[targets] * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)
    train = samples * 3 // 4
    return {"train": (inputs[:train], targets[:train]), "test": (inputs[train:], targets[train:])}
