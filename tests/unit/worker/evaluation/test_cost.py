"""Costs: multiply-adds equal those counted by hand, even where torch would take a fast path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.spec.model import FAMILIES, ModelSpec
from distill_queue.shared.spec.models.cnn import CnnSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.models.resnet import ResnetSpec
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation.cost import multiply_adds
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import Ensemble, build

#: Samples are `TIMES` vectors of `WIDTH`; heads, hidden widths.
TIMES, WIDTH, HEADS, WIDE, STATE = 32, 64, 4, 128, 16
ATTENTION = TIMES * WIDTH * 3 * WIDTH + 2 * TIMES * TIMES * WIDTH + TIMES * WIDTH * WIDTH
LAYER = ATTENTION + 2 * TIMES * WIDTH * WIDE


def of_vectors(inputs: torch.Tensor) -> Split:
    """A split of one sample that is not normalised."""
    zero, one = torch.zeros(inputs.shape[1], *[1] * (inputs.ndim - 2)), torch.ones(1)
    return Split(inputs, torch.zeros(1, dtype=torch.int64), zero, one, 1)


class Of(nn.Module):
    """Some modules, and what is done with them and the inputs."""

    def __init__(self, function: Callable[..., torch.Tensor], *modules: nn.Module) -> None:
        super().__init__()
        self.own, self.function = nn.ModuleList(modules), function

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.function(inputs, *self.own)


def layer(**options: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(WIDTH, HEADS, WIDE, batch_first=True, **options)


def encoder(layers: int) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(layer(), layers, enable_nested_tensor=False)


def attention() -> nn.MultiheadAttention:
    return nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)


MATRIX, VECTOR = torch.ones(WIDTH, WIDTH), torch.ones(WIDTH)
LATE = torch.arange(TIMES)[None] > 20


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (layer(), LAYER),
        (layer(norm_first=True), LAYER),
        (nn.Sequential(encoder(2), nn.Flatten(), nn.Linear(TIMES * WIDTH, 2)), 2 * LAYER + TIMES * WIDTH * 2),
        (Of(lambda x, own: own(x, src_key_padding_mask=LATE), encoder(1)), LAYER),
        (Of(lambda x, own: own(x, x, x)[0], attention()), ATTENTION),
        (Of(lambda x, own: own(x, x, x, need_weights=False)[0], attention()), ATTENTION),
        (
            Of(lambda x, own: own(x, x), nn.TransformerDecoderLayer(WIDTH, HEADS, WIDE, batch_first=True)),
            LAYER + ATTENTION,
        ),
        (Of(lambda x: functional.scaled_dot_product_attention(x, x, x, is_causal=True)), 2 * TIMES * TIMES * WIDTH),
        (Of(lambda x, own: own(x)[0], nn.RNN(WIDTH, STATE)), TIMES * STATE * (WIDTH + STATE)),
        (Of(lambda x, own: own(x)[0], nn.GRU(WIDTH, STATE)), 3 * TIMES * STATE * (WIDTH + STATE)),
        (Of(lambda x, own: own(x)[0], nn.LSTM(WIDTH, STATE)), 4 * TIMES * STATE * (WIDTH + STATE)),
        (
            Of(lambda x, own: own(x)[0], nn.LSTM(WIDTH, STATE, 2, bidirectional=True)),
            2 * 4 * TIMES * STATE * (WIDTH + STATE) + 2 * 4 * TIMES * STATE * (2 * STATE + STATE),
        ),
        (Of(lambda x: torch.einsum("bid,bjd->bij", x, x)), TIMES * TIMES * WIDTH),
        (Of(lambda x, own: own(x, x), nn.Bilinear(WIDTH, WIDTH, 5)), TIMES * 5 * (WIDTH * WIDTH + WIDTH)),
        (Of(lambda x: x @ VECTOR), TIMES * WIDTH),
        (Of(lambda x: torch.addmv(torch.zeros(TIMES), x[0], VECTOR)), TIMES * WIDTH),
        (Of(lambda x: x[0, 0] @ VECTOR), WIDTH),
        (Of(lambda x: torch.addbmm(torch.zeros(TIMES, WIDTH), x, MATRIX[None])), TIMES * WIDTH * WIDTH),
    ],
)
def test_the_products_of_sequences_are_all_counted(model: nn.Module, expected: int) -> None:
    fast = torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled

    assert multiply_adds(model, of_vectors(torch.ones(1, TIMES, WIDTH)), "operators") == expected
    assert (
        torch.backends.mha.get_fastpath_enabled(), torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled
    ) == fast  # fmt: skip


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Conv2d(8, 16, 3), 64 * 16 * 8 * 9),
        (nn.Conv2d(8, 8, 3, groups=8), 64 * 8 * 9),
        (nn.Conv2d(8, 16, 3, groups=2), 64 * 16 * 4 * 9),
        (nn.ConvTranspose2d(8, 16, 3, stride=2), 100 * 8 * 16 * 9),
        (nn.ConvTranspose2d(8, 16, 3, stride=2, groups=2), 100 * 8 * 8 * 9),
    ],
)
def test_every_kind_of_convolution_is_counted(model: nn.Module, expected: int) -> None:
    assert multiply_adds(model, of_vectors(torch.ones(1, 8, 10, 10)), "operators") == expected


def test_sums_of_embeddings_are_no_products() -> None:
    tokens = Split(
        torch.zeros(1, 6, dtype=torch.int16), torch.zeros(1, dtype=torch.int64), torch.ones(0), torch.ones(0), 1
    )

    assert multiply_adds(nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, 3)), tokens, "operators") == 12


#: A model of each family that says that layers are all there is.
OF_LAYERS = [MlpSpec(hidden=(8, 4)), CnnSpec(width=4, depth=2), ResnetSpec(name="resnet8")]


def built(spec: ModelSpec) -> nn.Module:
    facts = DatasetRecord(
        shape=(1, 6, 6),
        class_names=("a", "b", "c"),
        train_samples=1,
        labelled_samples=1,
        validation_samples=0,
        test_samples=1,
        mean=(0.0,),
        std=(1.0,),
    )
    return build(spec, facts, Runtime(torch.device("cpu")))


def test_each_family_that_is_counted_by_layers_has_a_model_here() -> None:
    assert [type(spec) for spec in OF_LAYERS] == [family for family in FAMILIES if family.counted_by_layers]


@pytest.mark.parametrize("specs", [*([spec] for spec in OF_LAYERS), OF_LAYERS], ids=[*map(str, OF_LAYERS), "joined"])
def test_of_families_that_say_so_layers_are_all_there_is(specs: list[ModelSpec]) -> None:
    model = Ensemble([built(spec) for spec in specs], [1.0] * len(specs), probabilities=True)
    data = of_vectors(torch.ones(1, 1, 6, 6))

    assert multiply_adds(model, data, "layers") == multiply_adds(model, data, "operators") > 0
