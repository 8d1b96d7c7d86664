"""Models of the user's own."""

from __future__ import annotations

from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.runtime import Runtime


def build(spec: CustomModelSpec, data: DatasetRecord, runtime: Runtime) -> nn.Module:
    """The model that a spec describes, for a data set."""
    factory = plugins.load(spec.name, runtime.plugins)
    with plugins.called(spec.name):
        model = factory(input_shape=data.input_shape, classes=data.classes, **as_arguments(spec.options))
    if not isinstance(model, nn.Module):
        raise InvalidSpec(f"{spec.name}: must return a torch.nn.Module, not {type(model).__name__}")
    return model
