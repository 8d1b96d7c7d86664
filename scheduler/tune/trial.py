"""Trials: the candidates of a study, and how good each was on held-out samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from distill_queue.scheduler.tune.space import Values, in_words
from distill_queue.shared.spec.student import StudentSpec


@dataclass(slots=True)
class Trial:
    """A candidate, from its first values to its last accuracy."""

    #: From 0 on, in the order in which they were asked for.
    number: int
    values: Values
    student: StudentSpec
    #: Accuracy on held-out samples of each rung that it has been through, mean over the rung's seeds.
    held_out: list[float] = field(default_factory=list)
    #: Why it has no accuracy; empty where it did not fail.
    error: str = ""

    @property
    def words(self) -> str:
        """Its values in one line."""
        return in_words(self.values)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """The trials, those that got furthest first; of these the best, and of equals the one that was better before."""
    return sorted(trials, key=lambda trial: (-len(trial.held_out), [-each for each in reversed(trial.held_out)]))


def best_of(trials: Iterable[Trial], rungs: int) -> Trial | None:
    """The best of the trials that have been through all rungs; None if there is none yet."""
    return next((trial for trial in ranked(trials) if len(trial.held_out) == rungs), None)
