"""The usual notebook: MNIST-like images through a DataLoader, the teacher's forward pass in every student step."""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
EPOCHS = 5
TEMPERATURE = 5.0

Loader = DataLoader[tuple[torch.Tensor, torch.Tensor]]


def main() -> None:
    """Run the notebook's job with the seed of the command line, and print its seconds and accuracies as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.notebook")
    parser.add_argument("seed", type=int)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--mnist", type=Path, help="a folder with MNIST/raw, in place of Fashion-MNIST")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(options.seed)
        train, test = loaders(Path(folder), options.mnist)
        teacher = mlp(512, 256).to(options.device)
        started = time.monotonic()
        train_teacher(teacher, train, options.epochs)
        teacher_trained = time.monotonic()
        student = mlp(128).to(options.device)
        distill(student, teacher, train, options.epochs)
        student_trained = time.monotonic()
        figures = {
            "teacher_seconds": teacher_trained - started,
            "student_seconds": student_trained - teacher_trained,
            "teacher_accuracy": accuracy(teacher, test),
            "student_accuracy": accuracy(student, test),
        }
    print(json.dumps(figures))


def loaders(folder: Path, mnist: Path | None = None) -> tuple[Loader, ...]:
    """Training and test loaders over Fashion-MNIST or a folder's MNIST, transformed sample by sample."""
    kind: type[datasets.MNIST] = datasets.FashionMNIST
    statistics = (0.286,), (0.353,)
    if mnist is not None:
        folder, kind, statistics = mnist, datasets.MNIST, ((0.1307,), (0.3081,))
    elif DEBIAN_FASHION_MNIST.is_dir():
        raw = folder / "FashionMNIST" / "raw"
        raw.mkdir(parents=True)
        for path in DEBIAN_FASHION_MNIST.glob("*.gz"):
            (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(*statistics)])
    return tuple(
        DataLoader(kind(folder, train=train, transform=transform, download=True), batch_size=64, shuffle=train)
        for train in (True, False)
    )


def mlp(*hidden: int) -> nn.Sequential:
    """784-...-10 with ReLU."""
    layers: list[nn.Module] = [nn.Flatten()]
    width = 784
    for next_width in hidden:
        layers += [nn.Linear(width, next_width), nn.ReLU()]
        width = next_width
    return nn.Sequential(*layers, nn.Linear(width, 10))


def train_teacher(teacher: nn.Module, train: Loader, epochs: int) -> None:
    """Cross-entropy with Adam."""
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    teacher.train()
    for _ in range(epochs):
        for images, labels in moved(train, teacher):
            optimizer.zero_grad()
            functional.cross_entropy(teacher(images), labels).backward()
            optimizer.step()


def distill(student: nn.Module, teacher: nn.Module, train: Loader, epochs: int) -> None:
    """KL on softened logits alone."""
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    teacher.eval()
    student.train()
    for _ in range(epochs):
        for images, _labels in moved(train, student):
            with torch.no_grad():
                soft = functional.softmax(teacher(images) / TEMPERATURE, dim=1)
            log_probabilities = functional.log_softmax(student(images) / TEMPERATURE, dim=1)
            loss = functional.kl_div(log_probabilities, soft, reduction="batchmean") * TEMPERATURE**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, test: Loader) -> float:
    """Share of the test images that the model gets right."""
    model.eval()
    right = [model(images).argmax(1) == labels for images, labels in moved(test, model)]
    return torch.cat(right).float().mean().item()


def moved(loader: Loader, model: nn.Module) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches on a model's device."""
    device = next(model.parameters()).device
    return ((images.to(device), labels.to(device)) for images, labels in loader)


if __name__ == "__main__":
    main()
