"""Studies: rounds of candidates that Optuna proposes, each round halved by accuracy on held-out samples.

A study keeps no file. What Optuna proposes depends only on the space, the seed and the accuracies before; these are in
the store, where a study that begins anew finds them. So it goes on where it was left, after any end of any process.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from distill_queue.scheduler.tune.rung import CANDIDATES, KEPT, RUNGS, Rung
from distill_queue.scheduler.tune.space import Choice, Range, Space
from distill_queue.scheduler.tune.trial import Trial
from distill_queue.shared.errors import InvalidSettings, PipelineFailed

#: The importance of dimensions is computed from this many trials on.
FEWEST_TRIALS = 8

#: The study ends after this many rounds if all of their candidates failed for one reason.
FRUITLESS_ROUNDS = 2

#: Trains some trials on a rung, and enters what they reach; false if time ran out before all had a result.
Train = Callable[[list[Trial], Rung], bool]


class Study:
    """The trials of a space so far, and Optuna's study of them."""

    def __init__(self, space: Space, seed: int) -> None:
        """Begin with nothing tried.

        Raises:
            InvalidSettings: Optuna is not installed.

        """
        self._optuna, self._space = _optuna(), space
        sampler = self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=CANDIDATES)
        self._study = self._optuna.create_study(direction="maximize", sampler=sampler)
        self._distributions = {each.name: self._distribution(each) for each in space.dimensions}
        self._study.enqueue_trial(dict(space.start))
        self.trials: list[Trial] = []

    def rounds(self, train: Train, most: int | None) -> Iterator[list[Trial]]:
        """Train round after round, and yield each one that is finished.

        The last round is the one in which time runs out, that makes enough trials, or after which Optuna proposes
        nothing new. A round whose candidates all fail is passed over.

        Raises:
            InvalidSpec: values that the space allows do not go together.
            PipelineFailed: the first rounds had no candidate that could be trained in full, all for one reason.

        """
        number = 0
        while most is None or len(self.trials) < most:
            size = CANDIDATES if most is None else min(CANDIDATES, most - len(self.trials))
            asked = [self._study.ask(self._distributions) for _ in range(size)]
            candidates = [self._trial(each) for each in asked]
            if all(any(each.values == tried.values for tried in self.trials) for each in candidates):
                return
            self.trials += candidates
            if not _halve(candidates, train):
                return
            for ours, theirs in zip(candidates, asked, strict=True):
                self._tell(ours, theirs)
            if (number := number + 1) == FRUITLESS_ROUNDS:
                self._require_different_failures()
            yield candidates

    def importances(self) -> dict[str, float]:
        """The share of each dimension in how much candidates differ after the first rung; empty after few trials."""
        tried = [trial for trial in self.trials if trial.held_out]
        if len(tried) < FEWEST_TRIALS or len({trial.held_out[0] for trial in tried}) == 1:
            return {}
        study = self._optuna.create_study(direction="maximize")
        for trial in tried:
            study.add_trial(
                self._optuna.trial.create_trial(
                    params=dict(trial.values), distributions=self._distributions, value=trial.held_out[0]
                )
            )
        return dict(self._optuna.importance.get_param_importances(study))

    @property
    def failure(self) -> str:
        """Why no candidate could be trained in full, by the first that failed; empty if one could or none failed."""
        if any(len(trial.held_out) == len(RUNGS) for trial in self.trials):
            return ""
        errors = [trial.error for trial in self.trials if trial.error]
        return f"none of {len(self.trials)} candidates can be trained: {errors[0]}" if errors else ""

    def _require_different_failures(self) -> None:
        reasons = {_NUMBERS.sub("", trial.error) for trial in self.trials if trial.error}
        if len(reasons) == 1 and (why := self.failure):
            raise PipelineFailed(why)

    def _trial(self, asked: Any) -> Trial:
        values = self._space.rounded(asked.params)
        return Trial(asked.number, values, self._space.candidate(values))

    def _tell(self, ours: Trial, theirs: Any) -> None:
        state = self._optuna.trial.TrialState
        for step, accuracy in enumerate(ours.held_out):
            theirs.report(accuracy, step)
        if not ours.held_out:
            self._study.tell(theirs, state=state.FAIL)
        elif len(ours.held_out) < len(RUNGS):
            self._study.tell(theirs, state=state.PRUNED)
        else:
            self._study.tell(theirs, ours.held_out[-1])

    def _distribution(self, dimension: Choice | Range) -> Any:
        distributions = self._optuna.distributions
        if isinstance(dimension, Choice):
            return distributions.CategoricalDistribution(list(dimension.options))
        if dimension.whole:
            return distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


#: What differs between the messages of one failure: epochs, numbers of trials, losses.
_NUMBERS = re.compile(r"\d+(?:[.,e+-]+\d+)*")


def _halve(candidates: list[Trial], train: Train) -> bool:
    """Train candidates rung by rung, the best of each on the next; return whether there was time for all of it."""
    left = candidates
    for rung in RUNGS:
        if not train(left, rung):
            return False
        passed = RUNGS.index(rung) + 1
        ranked = sorted((each for each in left if len(each.held_out) == passed), key=lambda each: -each.held_out[-1])
        if not ranked:
            break
        kept = ranked[: max(1, len(candidates) // KEPT**passed)]
        # What the study began with is always trained to the end, to compare the others with it.
        left = kept + [each for each in ranked[len(kept) :] if each.number == 0]
    return True


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise InvalidSettings("'distill tune' needs Optuna: pip install 'distill-queue[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
