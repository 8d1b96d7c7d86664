"""A teacher as people have them: trained elsewhere, on other classes and inputs, saved by torch.save beside much else.

    distill labels samples examples/given-teacher.yaml samples
    python examples/given_teacher.py samples examples
    distill run examples/given-teacher.yaml

It knows twenty classes: the digits, and the digits turned by a quarter. Its pixels are (x / 255 - 0.1307) / 0.3081.
"""

from __future__ import annotations

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

EPOCHS = 12


class Network(nn.Module):
    """Fully connected layers, called as in the model `mlp` of a spec."""

    def __init__(self, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*ends) for ends in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, classes]`."""
        hidden = inputs.flatten(1)
        for layer in self.layers:
            hidden = layer(hidden).relu()
        return self.head(hidden)


def main(samples: Path, folder: Path) -> None:
    """Train on the samples that `distill labels samples` has written; write `teacher.pth` and `teacher-classes.txt`."""
    torch.manual_seed(0)
    digits = torch.from_numpy(np.load(samples / "inputs.npy")).float()
    digits = (digits / 255 - 0.1307) / 0.3081
    targets = torch.from_numpy(np.load(samples / "targets.npy"))
    names = [f"{digit}{turned}" for digit in range(10) for turned in (" turned", "")]
    inputs = torch.cat([digits.rot90(1, (2, 3)), digits])
    classes = torch.cat([2 * targets, 2 * targets + 1])

    model = nn.DataParallel(Network((784, 256, 128), len(names)))
    ema = AveragedModel(model.module, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(128):
            shift = tuple(torch.randint(-2, 3, (2,)).tolist())
            loss = functional.cross_entropy(model(inputs[rows].roll(shift, (2, 3))), classes[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            ema.update_parameters(model.module)

    saved = {
        "epoch": EPOCHS,
        "args": argparse.Namespace(learning_rate=1e-3),
        "model": model.state_dict(),
        "ema": ema.module.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(saved, folder / "teacher.pth")
    (folder / "teacher-classes.txt").write_text("\n".join(names) + "\n")
    print(f"{folder / 'teacher.pth'}: {len(names)} classes, last loss {loss.item():.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
