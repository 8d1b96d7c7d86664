"""What views cost: milliseconds a batch, beside torchvision's on the same batch, and epochs of resnet20 with them.

    python -m benchmarks.views            # 128 images of 3 x 64 x 64, on the CPU

torchvision gives a whole batch one set of parameters; here each image has its own. All are timed in turn, and of each
the median counts. Times mean little on a machine that has other work.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.views.augment import augment
from distill_queue.worker.models.resnet import Resnet

BATCH, SHAPE = 128, (3, 64, 64)
ROUNDS = 15
#: Batches of an epoch, and how many epochs of each kind are timed.
BATCHES, EPOCHS = 8, 3

JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
BILINEAR = v2.InterpolationMode.BILINEAR
#: What both do, by name: torchvision's RandAugment does two operations on a batch, and others the next time.
CASES: dict[str, tuple[dict[str, Any], Callable[[torch.Tensor], torch.Tensor] | None]] = {
    "shift": ({"shift": 4}, v2.RandomCrop(SHAPE[1:], padding=4)),
    "flip": ({"flip": True}, v2.RandomHorizontalFlip(1.0)),
    "crop": ({"crop": {}}, v2.RandomResizedCrop(SHAPE[1:], scale=(0.35, 1.0), antialias=True)),
    "rotation": ({"rotation": 15}, v2.RandomRotation(15, BILINEAR)),
    "jitter": ({"jitter": JITTER}, v2.ColorJitter(**JITTER)),
    "grayscale": ({"grayscale": 0.2}, v2.RandomGrayscale(1.0)),
    "rand_augment": ({"rand_augment": {}}, v2.RandAugment()),
    "cutout": ({"cutout": 16}, v2.RandomErasing(1.0, scale=(0.0625, 0.0625), ratio=(1.0, 1.0))),
    "mixup": ({"mixup": 0.5}, None),
    "cutmix": ({"cutmix": 0.5}, None),
    (ALL := "crop, flip, jitter"): (
        {"crop": {}, "flip": True, "jitter": JITTER},
        v2.Compose(
            [
                v2.RandomResizedCrop(SHAPE[1:], scale=(0.35, 1.0), antialias=True),
                v2.RandomHorizontalFlip(1.0),
                v2.ColorJitter(**JITTER),
            ]
        ),
    ),
}


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.manual_seed(0)
    stored, rows = torch.randint(0, 256, (2 * BATCH, *SHAPE), dtype=torch.uint8), torch.arange(BATCH)
    tasks: dict[str, Callable[[], Any]] = {"step": partial(_stepping(Resnet(SHAPE[0], 20, 10)), stored[:BATCH].float())}
    for name, (asked, theirs) in CASES.items():
        spec = AugmentationSpec.model_validate(asked)
        tasks[name] = partial(augment, stored, rows, 0, spec)
        if theirs is not None:
            tasks[f"{name}, torchvision"] = partial(_by_torchvision, theirs, stored, rows)
    took = _timed(tasks)
    table = Table(title=f"Views of {BATCH} images of {' x '.join(map(str, SHAPE))}")
    for column in ("operation", "ms", "torchvision ms", "ratio", "of a step"):
        table.add_column(column, justify="left" if column == "operation" else "right")
    for name in CASES:
        theirs_ms = took.get(f"{name}, torchvision")
        beside = ("", "") if theirs_ms is None else (f"{theirs_ms:.1f}", f"{took[name] / theirs_ms:.2f}")
        table.add_row(name, f"{took[name]:.1f}", *beside, f"{took[name] / took['step']:.1%}")
    load = f"{os.getloadavg()[0]:.1f}"
    table.caption = (
        f"a step of resnet20: {took['step']:,.0f} ms · {torch.get_num_threads()} threads · load of the machine {load}"
    )
    Console().print(table)
    Console().print(_epochs())


def _epochs() -> Table:
    """Seconds of an epoch of resnet20: on prepared tensors, with our views, and with torchvision's in a DataLoader."""
    stored = torch.randint(0, 256, (BATCHES * BATCH, *SHAPE), dtype=torch.uint8)
    asked, theirs = CASES[ALL]
    spec = AugmentationSpec.model_validate(asked)
    loader = DataLoader(_Changed(stored, theirs), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    ways: dict[str, Callable[[], Iterable[torch.Tensor]]] = {
        "prepared tensors": lambda: (part.float() for part in stored.split(BATCH)),
        "our views": lambda: (
            augment(stored, rows, 0, spec).inputs for rows in torch.randperm(len(stored)).split(BATCH)
        ),
        "torchvision in a DataLoader, 2 workers": lambda: loader,
    }
    model = Resnet(SHAPE[0], 20, 10)
    step = _stepping(model)
    took: dict[str, list[float]] = {name: [] for name in ways}
    for round_ in range(EPOCHS + 1):
        for name, batches in ways.items():
            started = time.perf_counter()
            for images in batches():
                step(images)
            if round_:  # Not the first one, in which libraries are loaded and workers start.
                took[name].append(time.perf_counter() - started)
    seconds = {name: median(times) for name, times in took.items()}
    table = Table(title=f"An epoch of resnet20: {len(stored):,} images of {' x '.join(map(str, SHAPE))}, {ALL}")
    for column in ("", "seconds", "speed of the step on prepared tensors"):
        table.add_column(column, justify="right" if column else "left")
    for name, each in seconds.items():
        table.add_row(name, f"{each:.1f}", f"{seconds['prepared tensors'] / each:.0%}")
    return table


class _Changed(Dataset[torch.Tensor]):
    """Images, each changed by torchvision as it is asked for."""

    def __init__(self, images: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor] | None) -> None:
        self.images, self.change = images, change

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> torch.Tensor:
        return (self.change or torch.clone)(self.images[row]).float()


def _by_torchvision(
    change: Callable[[torch.Tensor], torch.Tensor], stored: torch.Tensor, rows: torch.Tensor
) -> torch.Tensor:
    return change(stored.index_select(0, rows)).float()


def _stepping(model: torch.nn.Module) -> Callable[[torch.Tensor], None]:
    """What trains a model for a step on a batch."""
    optimizer, targets = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), torch.arange(BATCH) % 10

    def step(images: torch.Tensor) -> None:
        optimizer.zero_grad()
        functional.cross_entropy(model((images - 127.5) / 74.0), targets).backward()
        optimizer.step()

    return step


def _timed(tasks: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median milliseconds of each, done in turn."""
    took: dict[str, list[float]] = {name: [] for name in tasks}
    for round_ in range(ROUNDS + 1):
        for name, task in tasks.items():
            if name == "step" and round_ > ROUNDS // 3:
                continue  # It takes a hundred times as long as the others.
            started = time.perf_counter()
            task()
            if round_:  # Not the first one, in which libraries are loaded.
                took[name].append((time.perf_counter() - started) * 1e3)
    return {name: median(times) for name, times in took.items()}


if __name__ == "__main__":
    main()
