"""Models: from a spec and the data's shape to a torch module that returns logits."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import log, prod
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from distill_queue.shared.errors import InvalidSpec, store_errors
from distill_queue.shared.files.weights_file import misfit, mistyped, tensors_in
from distill_queue.shared.line import first_line
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.model import CnnSpec, CustomModelSpec, MlpSpec, ModelSpec, ResnetSpec, TorchvisionSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.downloads import downloading
from distill_queue.worker.machine.outages import read_errors
from distill_queue.worker.machine.runtime import Runtime

logger = logging.getLogger(__name__)


class Mlp(nn.Module):
    """Fully connected layers with ReLU: `[batch, ...] -> [batch, classes]`."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        widths = (inputs, *hidden)
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        features = inputs.flatten(1)
        for layer in self.layers:
            features = functional.relu(layer(features))
        return self.head(features)


class Cnn(nn.Module):
    """Blocks of convolution, pooling, batch norm and ReLU: `[batch, channels, h, w] -> [batch, classes]`.

    Pooled first, as then the norm and the ReLU have a quarter of the work: a step takes 0.7 of the time (2 cores).
    """

    def __init__(self, channels: int, width: int, depth: int, classes: int) -> None:
        super().__init__()
        widths = [channels, *(width * 2**block for block in range(depth))]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(i, o, 3, padding=1, bias=False),
                    nn.MaxPool2d(2, ceil_mode=True),
                    nn.BatchNorm2d(o),
                    nn.ReLU(),
                )
                for i, o in pairwise(widths)
            )
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.blocks(inputs).mean((2, 3)))


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut without parameters (He et al. 2015, option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.stride = stride
        self.padding = outputs - inputs

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Features of `outputs` channels."""
        features = functional.relu(self.norm1(self.conv1(inputs)))
        features = self.norm2(self.conv2(features))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        return functional.relu(features + functional.pad(shortcut, (0, 0, 0, 0, 0, self.padding)))


class Resnet(nn.Module):
    """The residual network of `6n + 2` layers for small images (He et al. 2015, section 4.2)."""

    def __init__(self, channels: int, layers: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        blocks = []
        for inputs, outputs in ((16, 16), (16, 32), (32, 64)):
            blocks.append(ResidualBlock(inputs, outputs, outputs // inputs))
            blocks += [ResidualBlock(outputs, outputs, 1) for _ in range((layers - 2) // 6 - 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(64, classes)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.head(self.blocks(self.stem(inputs)).mean((2, 3)))


class ColourInput(nn.Module):
    """A torchvision model that also takes images of one channel."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(inputs.expand(-1, 3, -1, -1))


class Ensemble(nn.Module):
    """Several models as one: the weighted average of their logits, or the logarithm of that of their probabilities."""

    def __init__(self, models: Sequence[nn.Module], weights: Sequence[float], *, probabilities: bool) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.shares = [weight / sum(weights) for weight in weights]
        self.probabilities = probabilities

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits, float32; of averaged probabilities those at temperature 1, whose softmax is the average."""
        logits = [model(inputs).float() for model in self.models]
        if not self.probabilities:
            return torch.stack([share * each for share, each in zip(self.shares, logits, strict=True)]).sum(0)
        terms = [each.log_softmax(1) + log(share) for share, each in zip(self.shares, logits, strict=True)]
        return torch.stack(terms).logsumexp(0)


def build(spec: ModelSpec, data: DatasetRecord, runtime: Runtime, seed: int | None = None) -> nn.Module:
    """A new model for a data set, its weights drawn from a seed; without one, they are to be replaced.

    Raises:
        InvalidSpec: the model does not exist or does not fit the data.
        Unavailable: its pretrained weights cannot be downloaded for now.
        StageFailed: they cannot be downloaded at all, or are damaged.

    """
    with plugins.seeded(seed or 0):
        model = _module(spec, data, runtime)
        with plugins.called(spec.name if isinstance(spec, CustomModelSpec) else "", by_line=True):
            _require_fit(model, spec, data, trained=seed is not None)
    if isinstance(spec, TorchvisionSpec) and spec.weights and seed is not None:
        _start_from(model, spec, runtime)
    # Convolutions with channels last take half of the time or less; a model without them is left as it is.
    return model.to(runtime.device).to(memory_format=torch.channels_last)


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
        called: what its user calls it; its own name where nothing is given.

    Raises:
        InvalidSpec: the file is no safetensors file or belongs to another model.
        StoreUnavailable: it cannot be read.

    """
    with read_errors(path):
        return _load(model, path, called or path.name)


def parameters(model: nn.Module) -> int:
    """Number of numbers in a model that are weights, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def trained_parameters(model: nn.Module) -> int | None:
    """Of its parameters, those that are trained; None where all are: none is frozen by `requires_grad=False`."""
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return None if trained == parameters(model) else trained


def tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters and buffers, by name."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def _load(model: nn.Module, path: Path, name: str) -> nn.Module:
    own = model.state_dict()
    whole = [each for each, tensor in own.items() if not (tensor.is_floating_point() or tensor.is_complex())]
    shapes = {each: tuple(tensor.shape) for each, tensor in own.items()}
    given = tensors_in(path, name)
    if problem := mistyped(given, own, whole):
        raise InvalidSpec(f"{name}: not the weights of this model: {problem}")
    try:
        model.load_state_dict(load_file(path))  # What fits is for the modules to say: some read older names as well.
    except (SafetensorError, RuntimeError) as error:
        if memory.is_short(error):
            raise
        raise InvalidSpec(f"{name}: {misfit(given, shapes, whole) or ' '.join(str(error).split())}") from error
    return model


def _module(spec: ModelSpec, data: DatasetRecord, runtime: Runtime) -> nn.Module:
    channels = data.shape[0]
    match spec:
        case MlpSpec():
            return Mlp(prod(data.shape), spec.hidden, data.classes)
        case CnnSpec():
            return Cnn(channels, spec.width, spec.depth, data.classes)
        case ResnetSpec():
            return Resnet(channels, int(spec.name.removeprefix("resnet")), data.classes)
        case CustomModelSpec():
            factory = plugins.load(spec.name, runtime.plugins)
            with plugins.called(spec.name):
                model = factory(input_shape=data.shape, classes=data.classes, **as_arguments(spec.options))
            if not isinstance(model, nn.Module):
                raise InvalidSpec(f"{spec.name}: must return a torch.nn.Module, not {type(model).__name__}")
            return model
        case _:
            return _from_torchvision(spec.name.removeprefix("torchvision/"), data.classes)


def _from_torchvision(name: str, classes: int) -> nn.Module:
    from torchvision.models import get_model

    try:
        model = get_model(name, weights=None, num_classes=classes)
    except (ValueError, TypeError) as error:
        raise InvalidSpec(f"torchvision/{name}: {error}") from error
    if hasattr(model, "aux_logits"):
        raise InvalidSpec(f"torchvision/{name} has several outputs in training, and only one can be trained here")
    return ColourInput(model)


def _start_from(model: nn.Module, spec: TorchvisionSpec, runtime: Runtime) -> None:
    """Put pretrained weights into a model, all that fit: not those of a head for other classes."""
    from torchvision.models import get_model, get_model_weights

    name = spec.name.removeprefix("torchvision/")
    known = get_model_weights(name).__members__
    if spec.weights not in known:
        raise InvalidSpec(f"{spec.name} has no weights '{spec.weights}': there are {', '.join(known) or 'none'}")
    torch.hub.set_dir(str(runtime.downloads))
    wanted, folder = known[spec.weights], runtime.downloads / "checkpoints"
    by_hand = f"without a network, put {wanted.url} there"
    with downloading(f"{wanted.url.rpartition('/')[2]}, the weights of {spec.name},", folder, by_hand):
        given = get_model(name, weights=wanted, progress=False).state_dict()
    weights = model.state_dict()
    for place, tensor in given.items():
        if (own := weights.get(f"model.{place}")) is not None and own.shape == tensor.shape:
            own.copy_(tensor)


def _require_fit(model: nn.Module, spec: ModelSpec, data: DatasetRecord, *, trained: bool) -> None:
    """Run a blank batch through the model in eval mode, and where it is to be trained, a copy of it in training mode.

    What it makes at its first call, as the weights of lazy layers, is there from then on. A copy, as there are models
    that set their weights by the first batch that they are trained on; one that cannot be copied is not tried.
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
    batch = torch.zeros(2, *data.shape, dtype=torch.int64 if data.tokens else torch.float32)
    try:
        # Not in inference mode: tensors that a model keeps of it could not be trained with.
        with torch.set_grad_enabled(model.training):
            logits = model(batch)
    except plugins.MISTAKES as error:
        if memory.is_short(error):
            raise
        problem = first_line(error) + plugins.own_line(error, spec.name)
        raise InvalidSpec(f"model {spec.name} does not take samples of shape {data.shape}: {problem}") from error
    _require_logits(f"{spec.name}{' in training mode' if model.training else ''}", logits, len(batch), data.classes)


def _require_logits(model_name: str, output: object, batch: int, classes: int) -> None:
    """Refuse what a model returned of a batch, unless it is logits `[batch, classes]`, floating point numbers.

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
    """What a model returned in place of a tensor: a pair, a dictionary and its keys, None."""
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, list(output)[:5])) or 'nothing'}"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} of {len(output)}"
    return "None" if output is None else type(output).__name__


@contextmanager
def _leaving_no_trace(model: nn.Module) -> Iterator[None]:
    """Run something; buffers, as of batch norm, are then as they were."""
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
        if not is_lazy(buffer)  # It has no values yet.
    ]
    try:
        yield
    finally:
        for module, name, buffer, value in buffers:
            buffer.data.copy_(value)
            module._buffers[name] = buffer
