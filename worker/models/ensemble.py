"""Several teachers as one model."""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import torch
from torch import nn


class Ensemble(nn.Module):
    """Several models as one: the weighted average of their logits, or the log of their average probabilities."""

    def __init__(self, models: Sequence[nn.Module], weights: Sequence[float], *, probabilities: bool) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self.shares = [weight / sum(weights) for weight in weights]
        self.probabilities = probabilities

    def forward(self, *inputs: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        """Logits, float32; if probabilities are averaged, at temperature 1, the logits' softmax is their average."""
        logits = [model(*inputs, **named).float() for model in self.models]
        if not self.probabilities:
            return torch.stack([share * each for share, each in zip(self.shares, logits, strict=True)]).sum(0)
        terms = [each.log_softmax(1) + log(share) for share, each in zip(self.shares, logits, strict=True)]
        return torch.stack(terms).logsumexp(0)
