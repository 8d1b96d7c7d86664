"""A model that looks up the runs of bytes in a line: large it is the teacher, small a student."""

from __future__ import annotations

import torch
from torch import nn

#: Values of a token: a byte, or 0 where a line has ended.
TOKENS = 256


class Runs(nn.Module):
    """A linear classifier of the mean of what a line's runs of bytes stand for: `[batch, length] -> [batch, classes]`.

    Runs have 1 to `longest` bytes. There are more of them than `buckets`, and those in one bucket stand for the same
    (as in Joulin et al. 2017, Bag of tricks for efficient text classification, section 2.2).
    """

    def __init__(self, classes: int, longest: int, buckets: int, width: int, dropout: float) -> None:
        super().__init__()
        self.longest = longest
        self.embedding = nn.Embedding(buckets, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits of tokens, int64."""
        numbers, inside = [tokens], [tokens > 0]
        for further in range(1, self.longest):
            numbers.append(numbers[-1][:, :-1] * TOKENS + tokens[:, further:])
            inside.append(tokens[:, further:] > 0)
        kept = torch.cat(inside, 1)[..., None]
        features = self.embedding(torch.cat(numbers, 1) % self.embedding.num_embeddings) * kept
        return self.head(self.dropout(features.sum(1) / kept.sum(1).clamp_min(1)))


def runs(
    input_shape: tuple[int, ...],
    classes: int,
    longest: int = 2,
    buckets: int = 1_021,
    width: int = 16,
    dropout: float = 0.0,
) -> nn.Module:
    """A model of lines of tokens, of any length.

    Raises:
        ValueError: the samples are no lines, or a run's number would not fit into 64 bits.

    """
    if len(input_shape) != 1:
        raise ValueError(f"samples of shape {input_shape} are no lines of tokens")
    if not 1 <= longest <= 7:
        raise ValueError(f"longest: 1 to 7 bytes, not {longest}")
    return Runs(classes, longest, buckets, width, dropout)
