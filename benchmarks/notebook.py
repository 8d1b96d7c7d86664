"""The usual notebook: MNIST-like images through a DataLoader, the teacher's forward pass in every student step."""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
EPOCHS = 5
TEMPERATURE = 5.0


def main() -> None:
    """Run the notebook's job with the seed of the command line, and print its seconds and accuracies as JSON."""
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(int(sys.argv[1]))
        train, test = loaders(Path(folder))
        teacher = mlp(512, 256)
        started = time.monotonic()
        train_teacher(teacher, train)
        teacher_trained = time.monotonic()
        student = mlp(128)
        distill(student, teacher, train)
        student_trained = time.monotonic()
        figures = {
            "teacher_seconds": teacher_trained - started,
            "student_seconds": student_trained - teacher_trained,
            "teacher_accuracy": accuracy(teacher, test),
            "student_accuracy": accuracy(student, test),
        }
    print(json.dumps(figures))


def loaders(folder: Path) -> tuple[DataLoader[tuple[torch.Tensor, torch.Tensor]], ...]:
    """Training and test loaders over Fashion-MNIST, transformed sample by sample."""
    raw = folder / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for path in DEBIAN_FASHION_MNIST.glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.286,), (0.353,))])
    download = not DEBIAN_FASHION_MNIST.is_dir()
    return tuple(
        DataLoader(
            datasets.FashionMNIST(folder, train=train, transform=transform, download=download),
            batch_size=64,
            shuffle=train,
        )
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


def train_teacher(teacher: nn.Module, train: DataLoader[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """Cross-entropy with Adam."""
    optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)
    teacher.train()
    for _ in range(EPOCHS):
        for images, labels in train:
            optimizer.zero_grad()
            functional.cross_entropy(teacher(images), labels).backward()
            optimizer.step()


def distill(student: nn.Module, teacher: nn.Module, train: DataLoader[tuple[torch.Tensor, torch.Tensor]]) -> None:
    """KL on softened logits alone."""
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    teacher.eval()
    student.train()
    for _ in range(EPOCHS):
        for images, _labels in train:
            with torch.no_grad():
                soft = functional.softmax(teacher(images) / TEMPERATURE, dim=1)
            log_probabilities = functional.log_softmax(student(images) / TEMPERATURE, dim=1)
            loss = functional.kl_div(log_probabilities, soft, reduction="batchmean") * TEMPERATURE**2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


@torch.no_grad()
def accuracy(model: nn.Module, test: DataLoader[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Share of the test images that the model gets right."""
    model.eval()
    hits = sum(int((model(images).argmax(1) == labels).sum()) for images, labels in test)
    return hits / 10_000


if __name__ == "__main__":
    main()
