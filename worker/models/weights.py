"""Weights: what a model has learned, and the files that hold it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import nn

from distill_queue.shared.errors import InvalidSpec, store_errors
from distill_queue.shared.files.weights.fitting import fitting
from distill_queue.shared.files.weights_file import Shape, misfit, mistyped, renaming_to, tensors_in
from distill_queue.worker.machine import memory
from distill_queue.worker.machine.outages import read_errors
from distill_queue.worker.models.names import prefix_of


def save(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors."""
    # Cloned, as safetensors takes no tensors that share memory: tied weights.
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    with store_errors(path):
        path.write_bytes(save_tensors(weights))


def load(model: nn.Module, path: Path, called: str = "") -> nn.Module:
    """Put the weights of a safetensors file into a model.

    Args:
        model: it is changed.
        path: the file.
        called: its name in messages, as the user wrote it; the file's own name if none is given.

    Raises:
        InvalidSpec: the file is no safetensors file or belongs to another model.
        StoreUnavailable: it cannot be read.

    """
    with read_errors(path):
        return _load(model, path, called or path.name)


def load_given(model: nn.Module, path: Path, called: str) -> str:
    """Put weights that a user gave into a model, also where a wrapper has put something before all of their names.

    Args:
        model: it is changed.
        path: a safetensors file.
        called: its name in messages, as the user wrote it.

    Returns:
        What was done to the names, in words; empty if they are the model's own.

    Raises:
        InvalidSpec, StoreUnavailable: as for `load`.

    """
    # Of what is wrapped here, users have the names without the wrapper.
    inner: nn.Module = model.model if prefix_of(model) else model  # type: ignore[assignment]
    with read_errors(path):
        given = tensors_in(path, called)
        if not misfit(given, *_wanted(model)):
            _load(model, path, called)
            return ""
        if renaming := renaming_to(given, *_wanted(inner)):
            inner.load_state_dict(renaming.of(load_file(path)))
            return renaming.words
        _load(inner, path, called)
        return "" if inner is model else f"names as {vars(type(model))['library']} has them"


def start(model: nn.Module, path: Path, called: str, classes: int) -> str:
    """Put the weights that a model starts from into it: all of them, but for a head for other classes.

    Args:
        model: it is changed.
        path: a safetensors file.
        called: its name in messages, as the user wrote it.
        classes: how many the model tells apart.

    Returns:
        What was done to the names, and which tensors stay as they were drawn, in words; empty if all were taken.

    Raises:
        InvalidSpec, StoreUnavailable: as for `load`.

    """
    prefix = prefix_of(model)
    own = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
    shapes, whole = _described(own)
    with read_errors(path):
        given = tensors_in(path, called)
        found = fitting(given, shapes, whole, classes)
        if found.problem:
            raise InvalidSpec(f"{called}: {found.problem}")
        tensors = load_file(path)
    taken = found.renaming.of(tensors) if found.renaming else tensors
    drawn = {name: own[name] for name in found.drawn}
    try:
        model.load_state_dict({f"{prefix}{name}": each for name, each in (taken | drawn).items()})
    except RuntimeError as error:
        if memory.is_short(error):
            raise
        raise InvalidSpec(f"{called}: {' '.join(str(error).split())}") from error
    return found.words


def parameters(model: nn.Module) -> int:
    """The number of a model's parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def trained_parameters(model: nn.Module) -> int | None:
    """The number of a model's trained parameters; None if none is frozen by `requires_grad=False`."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return None if trained == parameters(model) else trained


def tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers, by name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _load(model: nn.Module, path: Path, name: str) -> nn.Module:
    given, (shapes, whole) = tensors_in(path, name), _wanted(model)
    if problem := mistyped(given, shapes, whole):
        raise InvalidSpec(f"{name}: not the weights of this model: {problem}")
    try:
        model.load_state_dict(load_file(path))  # The modules decide what fits: some read older names as well.
    except (SafetensorError, RuntimeError) as error:
        if memory.is_short(error):
            raise
        raise InvalidSpec(f"{name}: {misfit(given, shapes, whole) or ' '.join(str(error).split())}") from error
    return model


def _wanted(model: nn.Module) -> tuple[dict[str, Shape], list[str]]:
    """The names and shapes of a model's tensors, and which of them are of whole numbers or truth values."""
    return _described(model.state_dict())


def _described(own: dict[str, torch.Tensor]) -> tuple[dict[str, Shape], list[str]]:
    whole = [each for each, tensor in own.items() if not (tensor.is_floating_point() or tensor.is_complex())]
    return {each: tuple(tensor.shape) for each, tensor in own.items()}, whole
