"""The files that specs in examples and pages name: soft labels, weights, and the names of classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch


def write_given_files(folder: Path) -> None:
    """Write them into a folder."""
    np.savez(folder / "labels.npz", logits=np.eye(10, dtype=np.float32) * 9)
    widths = {"layers.0": (256, 784), "layers.1": (128, 256), "head": (20, 128)}
    weights = {f"{name}.weight": torch.zeros(shape) for name, shape in widths.items()}
    weights |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in widths.items()}
    torch.save({"model": dict(weights), "ema": weights}, folder / "teacher.pth")
    names = [f"{digit}{turned}" for digit in range(10) for turned in (" turned", "")]
    (folder / "teacher-classes.txt").write_text("\n".join(names))
