"""Building: makes a model by its family's module, and tries it, so that one that does not fit is refused at once."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import first_line
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.inputs import Inputs, through
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models.weights import tensors

#: Samples of the batch that a model is tried with.
BLANK_SAMPLES = 2

logger = logging.getLogger(__name__)


def build(spec: ModelSpec, data: DatasetRecord, runtime: Runtime, seed: int | None = None) -> nn.Module:
    """A new model for a data set, its weights drawn from a seed; without a seed, the caller replaces the weights.

    Raises:
        InvalidSpec: the model does not exist or does not fit the data.
        Unavailable: its pretrained weights cannot be downloaded for now.
        StageFailed: they cannot be downloaded at all, or are damaged.

    """
    with plugins.seeded(seed or 0):
        model = _built(spec, data, runtime)
        with plugins.called(spec.name if isinstance(spec, CustomModelSpec) else "", by_line=True):
            _require_fit(model, spec, data, trained=seed is not None)
    if spec.starts and seed is not None:
        with plugins.seeded(seed):
            _family_of(spec).start_from(model, spec, data, runtime)
    # Convolutions with channels last take half of the time or less; other models do not change.
    return model.to(runtime.device).to(memory_format=torch.channels_last)


def _built(spec: ModelSpec, data: DatasetRecord, runtime: Runtime) -> nn.Module:
    """The model as the module of its family makes it."""
    model: nn.Module = _family_of(spec).build(spec, data, runtime)
    return model


def _family_of(spec: ModelSpec) -> Any:
    """The module of a model's family."""
    return import_module(f"distill_queue.worker.models.{spec.family}")


def _require_fit(model: nn.Module, spec: ModelSpec, data: DatasetRecord, *, trained: bool) -> None:
    """Run a blank batch through the model in eval mode, and if it is to be trained, through a copy in training mode.

    The first call makes the weights of lazy layers, which stay. Training mode needs a copy, as some models set their
    weights by the first batch that they are trained on; a model that cannot be copied is not tried in training mode.
    """
    was_training = model.training
    with _leaving_no_trace(model):
        _try(model.eval(), spec, data)
    if lazy := [name for name, tensor in tensors(model) if is_lazy(tensor)]:
        raise InvalidSpec(f"model {spec.name} makes no use of {lazy[0]} in eval mode: a lazy layer without a shape")
    if trained and isinstance(spec, CustomModelSpec):
        try:
            spare = copy.deepcopy(model)
        except plugins.MISTAKES as error:
            if memory.is_short(error):
                raise
            logger.info("%s: not tried in training mode, as it cannot be copied", spec.name)
        else:
            _try(spare.train(), spec, data)
    model.train(was_training)


def _try(model: nn.Module, spec: ModelSpec, data: DatasetRecord) -> None:
    batch = _blank(data)
    try:
        # Not in inference mode: tensors that a model keeps from it could not be used in training.
        with torch.set_grad_enabled(model.training):
            logits = through(model, batch)
    except plugins.MISTAKES as error:
        if memory.is_short(error):
            raise
        problem = first_line(error) + plugins.own_line(error, spec.name)
        raise InvalidSpec(f"model {spec.name} does not take samples of shape {data.input_shape}: {problem}") from error
    _require_logits(f"{spec.name}{' in training mode' if model.training else ''}", logits, BLANK_SAMPLES, data.classes)


def _blank(data: DatasetRecord) -> Inputs:
    """Samples that are all zeros, as a model takes them."""
    if not data.inputs:
        return torch.zeros(BLANK_SAMPLES, *data.shape, dtype=torch.int64 if data.tokens else torch.float32)
    types = {"numbers": torch.float32, "tokens": torch.int64, "flags": torch.bool}
    return {name: torch.zeros(BLANK_SAMPLES, *each.shape, dtype=types[each.kind]) for name, each in data.inputs.items()}


def _require_logits(model_name: str, output: object, batch: int, classes: int) -> None:
    """Refuse the output of a model for a batch, unless it is logits `[batch, classes]`, floating point numbers.

    Raises:
        InvalidSpec: it is something else; the message says what.

    """
    wanted = "not logits [samples, classes]"
    if not isinstance(output, torch.Tensor):
        hint = "forward ends without a return" if output is None else "return the logits alone"
        raise InvalidSpec(f"model {model_name} returns {_described(output)}, {wanted}: {hint}")
    if output.ndim != 2 or len(output) != batch:
        shape = list(output.shape)
        raise InvalidSpec(f"model {model_name} returns a tensor {shape} of {batch} samples, {wanted}")
    if output.shape[1] != classes:
        raise InvalidSpec(
            f"model {model_name} returns {output.shape[1]:,} logits a sample, the data have {classes:,} classes"
        )
    if not output.is_floating_point():
        kind = str(output.dtype).removeprefix("torch.")
        raise InvalidSpec(f"model {model_name} returns {kind}, {wanted}: logits are floating point numbers")


def _described(output: object) -> str:
    """Words for what a model returned instead of a tensor: a pair, a dictionary and its keys, None."""
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, list(output)[:5])) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {len(output)}"
    return "None" if output is None else type(output).__name__


@contextmanager
def _leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers, such as those of batch norm, at the block's end."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if not is_lazy(buffer)  # Lazy ones have no values yet.
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in buffers:
            buffer.data.copy_(value)
            module._buffers[name] = buffer
