"""Models of texts, which take the numbers of their tokens and a mask: `examples/movie-snippets.yaml` names them."""

from __future__ import annotations

import torch
from torch import nn

#: Shape of each input of a sample, by its name.
Shapes = dict[str, tuple[int, ...]]
#: Deviation of what tokens stand for at first: a token that no label has taught yet says nearly nothing.
AT_FIRST = 0.1


class Transformer(nn.Module):
    """A transformer, and a linear classifier of the mean of its outputs: `[batch, length] -> [batch, classes]`."""

    def __init__(
        self, vocabulary: int, length: int, classes: int, width: int, layers: int, dropout: float, lost: float
    ) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary, width)
        self.place = nn.Parameter(torch.randn(length, width) * AT_FIRST / 5)
        self.lost = nn.Dropout1d(lost)
        layer = nn.TransformerEncoderLayer(
            width, nhead=4, dim_feedforward=2 * width, dropout=dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits of tokens, int64, where the mask is true; in training, a share of the tokens is lost."""
        features = self.layers(self.lost(self.embedding(ids) + self.place), src_key_padding_mask=~mask)
        return self.head(mean_of(features, mask))


class Convolution(nn.Module):
    """Convolutions over runs of tokens, of each its largest output (Kim 2014): logits `[batch, classes]`."""

    def __init__(self, vocabulary: int, classes: int, width: int, channels: int, lost: float) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary, width)
        self.lost = nn.Dropout1d(lost)
        self.runs = nn.ModuleList(nn.Conv1d(width, channels, size, padding=size // 2) for size in (1, 3, 5))
        self.head = nn.Linear(3 * channels, classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits of tokens, int64, where the mask is true; in training, a share of the tokens is lost."""
        features = (self.lost(self.embedding(ids)) * mask[..., None]).mT
        found = [run(features).relu().amax(2) for run in self.runs]
        return self.head(torch.cat(found, 1))


class Bag(nn.Module):
    """A linear classifier of the mean of the tokens' embeddings: `[batch, length] -> [batch, classes]`."""

    def __init__(self, vocabulary: int, classes: int, width: int, lost: float) -> None:
        super().__init__()
        self.embedding = embedding(vocabulary, width)
        self.lost = nn.Dropout1d(lost)
        self.head = nn.Linear(width, classes)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Logits of tokens, int64, where the mask is true; in training, a share of the tokens is lost."""
        return self.head(mean_of(self.lost(self.embedding(ids)), mask))


def embedding(vocabulary: int, width: int) -> nn.Embedding:
    """What each token stands for, small at first."""
    made = nn.Embedding(vocabulary, width)
    nn.init.normal_(made.weight, std=AT_FIRST)
    return made


def mean_of(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean `[batch, width]` of features `[batch, length, width]` where there is a token."""
    kept = mask[..., None].to(features.dtype)
    return (features * kept).sum(1) / kept.sum(1).clamp_min(1)


def transformer(
    input_shape: Shapes,
    classes: int,
    vocabulary: int,
    width: int = 64,
    layers: int = 2,
    dropout: float = 0.2,
    lost: float = 0.0,
) -> nn.Module:
    """A transformer for a tokenizer of so many tokens."""
    return Transformer(vocabulary, input_shape["ids"][0], classes, width, layers, dropout, lost)


def bag(input_shape: Shapes, classes: int, vocabulary: int, width: int = 16, lost: float = 0.0) -> nn.Module:  # noqa: ARG001 (all get it)
    """A bag of embeddings, for texts of any length."""
    return Bag(vocabulary, classes, width, lost)


def convolution(
    input_shape: Shapes,  # noqa: ARG001 (all get it)
    classes: int,
    vocabulary: int,
    width: int = 32,
    channels: int = 32,
    lost: float = 0.0,
) -> nn.Module:
    """A small convolutional network, for texts of any length."""
    return Convolution(vocabulary, classes, width, channels, lost)
