"""The nine stages of a tiny pipeline in plain torch, for tasks of Celery alone: see `benchmarks.small_stages`."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy, kl_div

HIDDEN = {"teacher": 16, "student": 8, "control": 8}
BATCH_SIZE, LEARNING_RATE, TEMPERATURE, ALPHA = 256, 1e-3, 4.0, 0.9


def do(kind: str, seed: int, folder: Path) -> str:
    """Do a stage in a folder; return its result in words."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    verb, _, of = kind.partition("_")
    if verb == "data":
        folder.mkdir()
        np.savez(folder / "data.npz", inputs=_digits()[0], targets=_digits()[1])
        return "digits"
    if verb == "report":
        accuracies = [(folder / f"{name}.txt").read_text() for name in HIDDEN]
        (folder / "report.json").write_text(json.dumps(accuracies))
        return "; ".join(accuracies)
    train, test = _data(folder)
    if verb == "labels":
        with torch.inference_mode():
            save_file({"labels": _trained("teacher", folder)(train[0])}, folder / "labels.safetensors")
        return "labels"
    if verb == "evaluate":
        with torch.inference_mode():
            accuracy = (_trained(of, folder)(test[0]).argmax(1) == test[1]).float().mean().item()
        (folder / f"{of}.txt").write_text(f"{of} {accuracy:.3f}")
        return f"{accuracy:.3f}"
    labels = load_file(folder / "labels.safetensors")["labels"] if verb == "student" else None
    return f"loss {_train(verb, seed, *train, labels, folder):.3f}"


def _train(
    kind: str, seed: int, inputs: torch.Tensor, targets: torch.Tensor, labels: torch.Tensor | None, folder: Path
) -> float:
    torch.default_generator.manual_seed(seed)
    model, loss = _model(kind), torch.tensor(0.0)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, fused=True)
    for rows in torch.randperm(len(inputs)).split(BATCH_SIZE):
        logits = model(inputs[rows])
        loss = cross_entropy(logits, targets[rows])
        if labels is not None:
            ours, theirs = ((each / TEMPERATURE).log_softmax(1) for each in (logits, labels[rows]))
            soft = kl_div(ours, theirs, reduction="batchmean", log_target=True)
            loss = ALPHA * TEMPERATURE**2 * soft + (1 - ALPHA) * loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_file(model.state_dict(), folder / f"{kind}.safetensors")
    return loss.item()


def _model(kind: str) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, HIDDEN[kind]), nn.ReLU(), nn.Linear(HIDDEN[kind], 10))


def _trained(kind: str, folder: Path) -> nn.Module:
    model = _model(kind)
    model.load_state_dict(load_file(folder / f"{kind}.safetensors"))
    return model.eval()


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    digits = load_digits()
    return digits.images.astype(np.float32), digits.target.astype(np.int64)


def _data(folder: Path) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Training and test samples, of each their inputs and targets."""
    with np.load(folder / "data.npz") as data:
        inputs, targets = torch.from_numpy(data["inputs"]), torch.from_numpy(data["targets"])
    inputs = (inputs - inputs.mean()) / inputs.std()
    return (inputs[360:], targets[360:]), (inputs[:360], targets[:360])
