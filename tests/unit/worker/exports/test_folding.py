"""Folding of batch norms into convolutions: where it is exact, and what is left as it is."""

from __future__ import annotations

import torch
from torch import nn

from distill_queue.worker.exports.folding import fold
from distill_queue.worker.models.cnn import Cnn


def trained() -> Cnn:
    """A model whose norms are no identity."""
    torch.manual_seed(0)
    model = Cnn(1, 4, 2, 3)
    for norm in norms(model):
        nn.init.uniform_(norm.weight, 0.5, 2.0)
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return model.eval()


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [each for each in model.modules() if isinstance(each, nn.BatchNorm2d)]


@torch.no_grad()
def test_norms_behind_a_max_pool_become_part_of_the_convolution() -> None:
    model, inputs = trained(), torch.randn(5, 1, 9, 9)
    before = model(inputs)

    fold(model)

    assert not norms(model)
    torch.testing.assert_close(model(inputs), before)


@torch.no_grad()
def test_a_norm_that_turns_a_channel_around_stays() -> None:
    model, inputs = trained(), torch.randn(5, 1, 9, 9)
    norms(model)[0].weight[1] = -1.0
    turned, before = norms(model)[0], model(inputs)

    fold(model)

    assert norms(model) == [turned]
    torch.testing.assert_close(model(inputs), before)


@torch.no_grad()
def test_a_convolution_that_is_used_twice_or_has_a_hook_stays() -> None:
    model = trained()
    conv = model.blocks[0][0]
    shared = nn.ModuleList([model, conv])
    model.blocks[1][0].register_forward_hook(lambda module, inputs, output: output + 1)

    fold(shared)

    assert len(norms(model)) == 2
