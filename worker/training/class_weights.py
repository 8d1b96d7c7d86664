"""Class weights: how much a label counts in the hard loss, by its class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.training import unknown_classes


def class_weights(
    given: Literal["balanced"] | Mapping[str, float] | None, class_names: Sequence[str], targets: torch.Tensor
) -> torch.Tensor | None:
    """The weight of each class `[classes]`, float32, on the device of the targets; None where all count 1.

    `balanced` is scikit-learn's: the number of samples by the number of classes and that of the class's samples. A
    class without samples counts 1, which matters to smoothed labels alone.

    Args:
        given: as in a spec.
        class_names: the names of all classes.
        targets: of the samples that are learned from, `[samples]`, -1 where there is no label.

    Raises:
        InvalidSpec: a weight is for a class that the data do not have.

    """
    if given is None:
        return None
    if given == "balanced":
        samples = torch.bincount(targets[targets >= 0].cpu(), minlength=len(class_names)).double()
        balanced = samples.sum() / ((samples > 0).sum() * samples)
        return torch.where(samples > 0, balanced, 1.0).float().to(targets.device)
    if fault := unknown_classes(given, class_names):
        raise InvalidSpec(fault)
    return torch.tensor([given.get(name, 1.0) for name in class_names], device=targets.device)
