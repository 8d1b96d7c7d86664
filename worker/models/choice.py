"""The choice of outputs: of a model that tells more classes apart than the data have, or in another order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn


def choose_outputs(model: nn.Module, outputs: Sequence[int], device: torch.device) -> nn.Module:
    """Have a model return some of its logits `[batch, len(outputs)]`, in the order of `outputs`.

    A hook, no module around it: its weights keep their names, and what knows its layers knows them.
    """
    places = torch.tensor(outputs, device=device)

    def choose(_model: nn.Module, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_select(1, places)

    model.register_forward_hook(choose)
    return model
