"""Cross-entropy: the loss against the labels."""

from __future__ import annotations

import torch
from torch.nn import functional

from distill_queue.worker.losses.numerics import UNLABELLED


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """Mean negative log-likelihood, in nats, over the rows with a label; 0 if there is none.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        label_smoothing: share of each label that is spread evenly over all classes (Szegedy et al. 2016, section 7).

    Returns:
        A scalar: the sum over the labelled rows by their count.

    """
    total = functional.cross_entropy(
        logits.float(), targets, ignore_index=UNLABELLED, reduction="sum", label_smoothing=label_smoothing
    )
    # torch's own mean is 0 / 0 where no row has a label.
    return total / (targets != UNLABELLED).sum().clamp_min(1)


def mixed_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    partner_targets: torch.Tensor,
    shares: torch.Tensor,
    label_smoothing: float = 0.0,
) -> torch.Tensor:
    """Cross-entropy with the labels of blended samples: `(1 - share)` of a row's own and `share` of its partner's.

    Zhang et al. 2018 (mixup). A row counts by the shares of its labels that are known.

    Args:
        logits: `[batch, classes]`, before softmax.
        targets: `[batch]`, int64 classes, -1 where there is no label.
        partner_targets: the same of the samples that were blended in.
        shares: `[batch]`, of the partners, from 0 to 1.
        label_smoothing: share of each label that is spread evenly over all classes.

    Returns:
        A scalar: the weighted sum over the rows by the sum of the weights.

    """
    logits = logits.float()
    total, weight = logits.new_zeros(()), logits.new_zeros(())
    for labels, weights in ((targets, 1.0 - shares), (partner_targets, shares)):
        rows = functional.cross_entropy(
            logits, labels, ignore_index=UNLABELLED, reduction="none", label_smoothing=label_smoothing
        )
        total, weight = total + (weights * rows).sum(), weight + (weights * (labels != UNLABELLED)).sum()
    return total / weight.clamp_min(1.0 / 256)
