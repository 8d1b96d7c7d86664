"""Measures: what epochs, and points of a grid, are compared by on held-out samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Measure = Literal["accuracy", "balanced_accuracy", "macro_f1", "loss"]

#: Means over the classes.
BY_CLASS: tuple[Measure, ...] = ("balanced_accuracy", "macro_f1")
#: Each measure in words.
WORDS: dict[Measure, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "loss": "loss",
}


def best_place(values: Sequence[float], measure: Measure) -> int:
    """The place of the best of some values, the first of equals: of losses the lowest, else the highest."""
    return values.index(min(values) if measure == "loss" else max(values))


def in_figures(value: float, measure: Measure, digits: int = 1) -> str:
    """A value as tables and sentences have it: a loss in nats, else a share of 1 in percent."""
    return f"{value:.3f}" if measure == "loss" else f"{value:.{digits}%}"


def in_words(value: float, measure: Measure, digits: int = 1) -> str:
    """A value with the measure's name, which accuracies do without."""
    name = "" if measure == "accuracy" else f"{WORDS[measure]} "
    return name + in_figures(value, measure, digits)
