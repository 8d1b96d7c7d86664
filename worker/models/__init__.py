"""Models: a file for each family, found by its name, builds a torch module that returns logits from spec and data."""

from distill_queue.worker.models.build import build
from distill_queue.worker.models.choice import choose_outputs
from distill_queue.worker.models.cnn import Cnn
from distill_queue.worker.models.ensemble import Ensemble
from distill_queue.worker.models.mlp import Mlp
from distill_queue.worker.models.names import freeze, frozen_modules, frozen_names, parameter_names
from distill_queue.worker.models.resnet import Resnet
from distill_queue.worker.models.weights import load, load_given, parameters, save, start, tensors, trained_parameters

__all__ = [
    "Cnn",
    "Ensemble",
    "Mlp",
    "Resnet",
    "build",
    "choose_outputs",
    "freeze",
    "frozen_modules",
    "frozen_names",
    "load",
    "load_given",
    "parameter_names",
    "parameters",
    "save",
    "start",
    "tensors",
    "trained_parameters",
]
