"""The generator: random numbers that are a pure function of (seed, view, sample), and functions of them.

A view has the same bits in any batch and on any device. Functions here and in the operations are therefore made of
additions, multiplications, divisions of tensors, square roots and roundings, which IEEE 754 defines to the bit. torch's
`exp`, `sin` and sums of many floats depend on the number of elements or on the device. So do `add(…, alpha=…)` and
`addcmul`, which are one rounding or two, and the division by a Python number, which CUDA makes a multiplication.
"""

from __future__ import annotations

import math

import torch

#: SplitMix64's step and the two factors of its mixing function, as signed 64-bit numbers.
_STEP = 0x9E3779B97F4A7C15 - 2**64
_FACTOR_1 = 0xBF58476D1CE4E5B9 - 2**64
_FACTOR_2 = 0x94D049BB133111EB - 2**64

#: Taylor's coefficients from the highest power down: of `exp` (to 1e-12 up to |x| = 2.31), and of `sin(x) / x` and
#: `cos(x)` as functions of x² (to 1e-11 up to |x| = π).
_EXP = [1.0 / math.factorial(power) for power in range(20, -1, -1)]
_SIN = [(-1.0) ** power / math.factorial(2 * power + 1) for power in range(11, -1, -1)]
_COS = [(-1.0) ** power / math.factorial(2 * power) for power in range(12, -1, -1)]


def states(seed: int, view: int | torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """The state of each sample's stream of random numbers, int64 `[batch]`.

    Each (seed, view, sample) has a SplitMix64 stream of its own, whose state comes from one step for each of the three
    (Steele, Lea and Flood 2014, Fast splittable pseudorandom number generators, section 4; the mixing function is
    Stafford's variant 13 of MurmurHash3's).

    Args:
        seed: from 0 to 2³² - 1.
        view: the view's number, for all or as int64 `[batch]` for each.
        samples: `[batch]`, int64.

    """
    state = _mix(torch.tensor(seed) + _STEP)
    state = _mix(state + view + _STEP)
    return _mix(state + samples + _STEP)


def draw(states: torch.Tensor, places: range) -> torch.Tensor:
    """Random numbers from 0 to 2³² - 1, int64 `[places, batch]`: the same on any device and in any batch.

    A number is the upper half of the word at its place in the stream.
    """
    steps = torch.arange(places.start + 1, places.stop + 1, device=states.device)[:, None] * _STEP
    return _shift_right(_mix(states + steps), 32)


def below(limit: int | torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Numbers from `draw` brought to 0 … limit - 1, uneven by less than limit / 2³²."""
    return numbers * limit >> 32


def between(low: float, high: float, numbers: torch.Tensor) -> torch.Tensor:
    """Numbers from `draw` spread evenly from `low` to `high`, float64."""
    return numbers.double() * ((high - low) / 2**32) + low


def exp(values: torch.Tensor) -> torch.Tensor:
    """The exponential of float64 values from -2.31 to 2.31, the same bits in any batch."""
    return _polynomial(values, _EXP)


def sin_cos(angles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sine and cosine of float64 angles from -π to π, the same bits in any batch."""
    squares = angles * angles
    return angles * _polynomial(squares, _SIN), _polynomial(squares, _COS)


def _polynomial(values: torch.Tensor, coefficients: list[float]) -> torch.Tensor:
    result = torch.full_like(values, coefficients[0])
    for coefficient in coefficients[1:]:
        result.mul_(values).add_(coefficient)
    return result


def _mix(words: torch.Tensor) -> torch.Tensor:
    """Each of some 64-bit words turned into another, int64 that wraps: a bijection in which every bit touches all."""
    words = (words ^ _shift_right(words, 30)) * _FACTOR_1
    words = (words ^ _shift_right(words, 27)) * _FACTOR_2
    return words ^ _shift_right(words, 31)


def _shift_right(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Words shifted as if they had no sign: torch's own `>>` fills up with the sign."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
