"""Trials: the candidates of a study, and how good each was on held-out samples."""

from __future__ import annotations

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


def best_of(trials: list[Trial], rungs: int) -> Trial | None:
    """The best of the trials that have been through all rungs, the first of equals; None if there is none yet."""
    finished = [trial for trial in trials if len(trial.held_out) == rungs]
    return max(finished, key=lambda trial: trial.held_out[-1], default=None)
