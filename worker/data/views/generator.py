"""The generator: random numbers that are a pure function of (seed, view, sample)."""

from __future__ import annotations

import torch

#: Random numbers that a sample has in a view: shift down and right, flip, middle of the square (row, column), partner,
#: share. A new one goes to the end, so that the others stay what they are.
DRAWS = 7

#: SplitMix64's step and the two factors of its mixing function, as signed 64-bit numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTOR_1 = 0xBF58476D1CE4E5B9 - 2**64
_FACTOR_2 = 0x94D049BB133111EB - 2**64


def uniform(seed: int, view: int | torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Random numbers from 0 to 2³² - 1, int64 `[DRAWS, batch]`: the same on any device and in any batch.

    Each (seed, view, sample) has a SplitMix64 stream of its own, whose state comes from one step for each of the three
    (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators, section 4; the mixing function is
    Stafford's variant 13 of MurmurHash3's). A number is the upper half of one of the stream's words.

    Args:
        seed: from 0 to 2³² - 1.
        view: the view's number, for all or as int64 `[batch]` for each.
        samples: `[batch]`, int64.

    """
    state = _mix(torch.tensor(seed) + _STEP)
    state = _mix(state + view + _STEP)
    state = _mix(state + samples + _STEP)
    steps = torch.arange(1, DRAWS + 1, device=samples.device)[:, None] * _STEP
    return _shift_right(_mix(state + steps), 32)


def below(limit: int, numbers: torch.Tensor) -> torch.Tensor:
    """Numbers from `uniform` brought to 0 … limit - 1, uneven by less than limit / 2³²."""
    return numbers * limit >> 32


def _mix(words: torch.Tensor) -> torch.Tensor:
    """Each of some 64-bit words turned into another, int64 that wraps: a bijection in which every bit touches all."""
    words = (words ^ _shift_right(words, 30)) * _FACTOR_1
    words = (words ^ _shift_right(words, 27)) * _FACTOR_2
    return words ^ _shift_right(words, 31)


def _shift_right(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Words shifted as if they had no sign: torch's own `>>` fills up with the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
