"""Classifiers of torchvision's."""

from __future__ import annotations

import torch
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.worker.machine.downloads import downloading
from distill_queue.worker.machine.runtime import Runtime


def build(spec: TorchvisionSpec, data: DatasetRecord, _runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set."""
    from torchvision.models import get_model

    name = spec.name.removeprefix("torchvision/")
    try:
        model = get_model(name, weights=None, num_classes=data.classes)
    except (ValueError, TypeError) as error:
        raise InvalidSpec(f"torchvision/{name}: {error}") from error
    if hasattr(model, "aux_logits"):
        raise InvalidSpec(f"torchvision/{name} has several outputs in training, and only one can be trained here")
    return ColourInput(model)


def start_from(model: nn.Module, spec: TorchvisionSpec, _data: DatasetRecord, runtime: Runtime) -> None:
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


class ColourInput(nn.Module):
    """A torchvision model that also takes images of one channel."""

    #: What its parameters' names begin with, before torchvision's own, and whose these are.
    names_prefix, library = "model.", "torchvision"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Logits."""
        return self.model(inputs.expand(-1, 3, -1, -1))
