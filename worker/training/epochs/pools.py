"""Pools: the rows that a member learns from, in groups that an epoch shows equally often."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.worker.data.split import Split

#: Rows on the CPU: one group, or one for each class that has rows.
Pool = Sequence[torch.Tensor]


def pool_of(data: Split, classes: tuple[int, ...] | None, *, distilled: bool, by_class: bool) -> Pool | None:
    """The rows that a member learns from, or None for all, each once.

    Args:
        data: the training samples.
        classes: those whose samples it learns from; None for all samples.
        distilled: whether it has a teacher; without one it learns from samples with a label.
        by_class: whether an epoch shows each class equally often.

    Raises:
        InvalidSpec: no sample is of its classes; or one without a label may be, or is to be drawn by its class.

    """
    without_label = data.labelled < len(data)
    if classes is not None and without_label:
        raise InvalidSpec("transfer: some training samples have no label, so that their class is not known")
    if by_class and distilled and without_label:
        raise InvalidSpec(
            "training.sampling: some training samples have no label, so that a student cannot see each class equally "
            "often: leave out 'balanced', which a teacher may have"
        )
    if by_class:
        found = sorted(classes if classes is not None else data.targets[data.targets >= 0].unique().tolist())
        groups = [(data.targets == number).nonzero().flatten().cpu() for number in found]
        pool = [rows for rows in groups if len(rows)]
    elif classes is not None:
        rows = torch.isin(data.targets, torch.tensor(classes, device=data.device)).nonzero().flatten().cpu()
        pool = [rows] if len(rows) else []
    elif distilled or not without_label:
        return None
    else:
        return [(data.targets >= 0).nonzero().flatten().cpu()]
    if not pool:
        raise InvalidSpec("transfer: no training sample is of its classes")
    return pool
