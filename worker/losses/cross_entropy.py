"""Cross-entropy: the loss against the labels."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.worker.losses.numerics import UNLABELLED

#: Less than the weight of any labelled row, and more than nothing to divide by.
TINY = 1e-12


def cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean negative log-likelihood, in nats, over the rows with a label; 0 if there is none.

    With weights it is the mean of `torch.nn.functional.cross_entropy(weight=…)`: a row counts by its label's weight.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        label_smoothing: share of each label that is spread evenly over all classes (Szegedy et al. 2016, section 7).
        class_weights: `[classes]`, float32, above 0; none: 1 each.

    Returns:
        A scalar: the sum over the labelled rows by their count, or by the sum of their labels' weights.

    """
    total = functional.cross_entropy(
        logits.float(),
        targets,
        class_weights,
        ignore_index=UNLABELLED,
        reduction="sum",
        label_smoothing=label_smoothing,
    )
    # torch's own mean is 0 / 0 where no row has a label.
    if class_weights is None:
        return total / (targets != UNLABELLED).sum().clamp_min(1)
    return total / _weights_of(targets, class_weights).sum().clamp_min(TINY)


def mixed_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    partner_targets: torch.Tensor,
    shares: torch.Tensor,
    label_smoothing: float = 0.0,
    class_weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy with the labels of blended samples: `(1 - share)` of a row's own and `share` of its partner's.

    Zhang et al. 2018 (mixup). A row counts by the shares of its labels that are known.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        partner_targets: the same of the samples that were blended in.
        shares: `[batch]`, of the partners, from 0 to 1.
        label_smoothing: share of each label that is spread evenly over all classes.
        class_weights: as of `cross_entropy`, by which each label's share is multiplied.

    Returns:
        A scalar: the weighted sum over the rows by the sum of the weights.

    """
    logits = logits.float()
    total, weight = logits.new_zeros(()), logits.new_zeros(())
    for labels, weights in ((targets, 1.0 - shares), (partner_targets, shares)):
        rows = functional.cross_entropy(
            logits,
            labels,
            class_weights,
            ignore_index=UNLABELLED,
            reduction="none",
            label_smoothing=label_smoothing,
        )
        counted = labels != UNLABELLED if class_weights is None else _weights_of(labels, class_weights)
        total, weight = total + (weights * rows).sum(), weight + (weights * counted).sum()
    return total / weight.clamp_min(1.0 / 256 if class_weights is None else TINY)


def _weights_of(targets: torch.Tensor, class_weights: torch.Tensor) -> torch.Tensor:
    """The weight of each row's label `[batch]`; 0 where it has none."""
    return torch.where(targets != UNLABELLED, class_weights[targets.clamp_min(0)], 0.0)
