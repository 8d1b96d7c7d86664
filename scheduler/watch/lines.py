"""Lines about a pipeline where there is no terminal: new states of stages at once, their progress now and then."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from distill_queue.shared.ledger.status import PipelineStatus, StageState, State
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.plan.stage import Bundle, Stage

#: Seconds between two lines about the progress of a task: at an epoch's end, and within one.
EPOCH_SECONDS = 5.0
LINE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Line:
    """What several stages of one task have in common: their state in words."""

    stages: Bundle
    state: StageState
    words: str

    @property
    def subject(self) -> str:
        """One title for all of the stages."""
        return titled(self.stages)


@dataclass(slots=True)
class Lines:
    """Makes lines of the successive statuses of one pipeline."""

    #: Returns a stage's state in words, to stand beside its title.
    describe: Callable[[Stage, StageState], str]
    clock: Callable[[], float] = field(default=time.monotonic)
    #: By a stage's key: the state that was last printed and, while it waits, why.
    _said: dict[str, tuple[str, str]] = field(default_factory=dict)
    #: By the key of a task's first stage: when its progress was last printed, and at which epoch.
    _told: dict[str, tuple[float, str]] = field(default_factory=dict)

    def __call__(self, status: PipelineStatus) -> Iterator[Line]:
        """The lines that a new status gives."""
        for task in status.plan.bundles:
            changed = tuple(stage for stage in task if self._is_news(stage, status.states[stage.key]))
            yield from self._lines(task, changed, status)
            going_on = tuple(
                stage for stage in task if stage not in changed and status.states[stage.key].state == State.RUNNING
            )
            if going_on and self._is_due(task, status.states[going_on[0].key]):
                yield from self._lines(task, going_on, status)

    def _is_news(self, stage: Stage, state: StageState) -> bool:
        now, reason = state.state, state.progress if state.state == State.WAITING else ""
        before, told = self._said.get(stage.key, (State.WAITING, ""))
        self._said[stage.key] = now, reason
        return now != before or reason not in ("", told)

    def _is_due(self, task: Bundle, state: StageState) -> bool:
        told, epoch = self._told[task[0].key]
        wait = EPOCH_SECONDS if _epoch(state) != epoch else LINE_SECONDS
        return self.clock() - told >= wait

    def _lines(self, task: Bundle, stages: Bundle, status: PipelineStatus) -> Iterator[Line]:
        """One line for all stages that have the same text."""
        alike: dict[tuple[str, str], list[Stage]] = {}
        for stage in stages:
            state = status.states[stage.key]
            alike.setdefault((state.state, self.describe(stage, state)), []).append(stage)
        for (_, words), same in alike.items():
            state = status.states[same[0].key]
            if state.state == State.RUNNING:
                self._told[task[0].key] = self.clock(), _epoch(state)
            yield Line(tuple(same), state, words)


def titled(stages: Sequence[Stage]) -> str:
    """One title for several stages, as `distill small, seeds 0 to 8 and 9 others (18 models together)`."""
    if len(stages) == 1:
        return stages[0].title
    #: Seeds by the text before and behind them in a title.
    seeds: dict[tuple[str, str], list[int]] = {}
    for stage in stages:
        match = re.search(r", seed (\d+)", stage.title)
        around = (stage.title[: match.start()], stage.title[match.end() :]) if match else (stage.title, "")
        seeds.setdefault(around, []).extend([int(match[1])] if match else [])
    (before, behind), numbers = next(iter(seeds.items()))
    others = len(stages) - max(1, len(numbers))
    more = f" and {others:,} other{'' if others == 1 else 's'}" if others else ""
    # Only trainings run side by side; evaluations run one after another.
    together = " together" if all(isinstance(stage.recipe, Training) for stage in stages) else ""
    return f"{before}{_of_seeds(numbers)}{behind}{more} ({len(stages):,} models{together})"


def _of_seeds(seeds: Sequence[int]) -> str:
    if len(seeds) < 2:
        return "".join(f", seed {seed}" for seed in seeds)
    *first, last = seeds
    if last - first[0] == len(first):
        return f", seeds {first[0]} to {last}"
    return f", seeds {', '.join(map(str, first))} and {last}"


def _epoch(state: StageState) -> str:
    """The epoch or the view that is worked on, if there are some."""
    found = re.match(r"(epoch|view) \d+", state.progress)
    return found[0] if found else ""
