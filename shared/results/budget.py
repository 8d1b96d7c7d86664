"""What came of a budget: the best student that keeps it, or the nearest one and what it misses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import SealedLine
from distill_queue.shared.results.interval import wilson

#: Points of accuracy that only rounding makes: 0.97 is not quite 97 / 100.
ROUNDING = 1e-9
#: Left out where it is not stated.
_Stated = Field(exclude_if=lambda limit: limit is None)


class Limits(Frozen):
    """What a candidate may cost, and how good it must be, as the spec says."""

    bytes: Annotated[int | None, _Stated] = None
    latency_ms: Annotated[float | None, _Stated] = None
    #: In percent.
    accuracy: Annotated[float | None, _Stated] = None


class Candidate(Frozen):
    """A student as it would be used: one of its files, or, if it has none, its model in torch."""

    student: SealedLine
    #: The file's name; none of a model in torch.
    file: Annotated[SealedLine | None, Field(exclude_if=lambda file: file is None)] = None
    size_bytes: int
    #: The median at one sample.
    latency_ms: float
    #: A share of 1, on so many test samples.
    accuracy: float
    samples: int

    @property
    def words(self) -> str:
        """What it is called."""
        return f"{self.student} as {self.file}" if self.file else f"{self.student} in torch"


class Miss(NamedTuple):
    """A limit that a candidate does not keep."""

    #: How much more it takes than is allowed, as a share of that: bytes, milliseconds or wrong answers.
    excess: float
    #: By how much, in words.
    words: str


class BudgetVerdict(Frozen):
    """The limits, the candidates that were compared, and which one is named."""

    limits: Limits
    #: How many were compared, and how many of them keep all limits.
    candidates: int
    fitting: int
    #: The most accurate one that fits, of equals the one with the fewest bytes; the nearest one where none fits.
    named: Candidate
    #: What the nearest one misses, in words; left out where one fits.
    misses: Annotated[tuple[SealedLine, ...], Field(exclude_if=lambda missed: not missed)] = ()

    @property
    def summary(self) -> str:
        """The verdict in a sentence or two."""
        named, budget = self.named, _limits_in_words(self.limits)
        low, high = (100 * each for each in wilson(named.accuracy, named.samples))
        facts = (
            f"{named.size_bytes:,} bytes, {named.latency_ms:.3g} ms, {named.accuracy:.2%} "
            f"({low:.1f} to {high:.1f} at 95% confidence)"
        )
        if not self.fitting:
            return (
                f"Budget ({budget}): none of {self.candidates} fits; the nearest is {named.words}, {facts}: "
                f"{' and '.join(self.misses)}."
            )
        fits = "the only one that fits" if self.fitting == 1 else f"the most accurate of {self.fitting} that fit"
        chosen = " Chosen on the test set: expect a little less accuracy on new data." if self.fitting > 1 else ""
        return f"Budget ({budget}): {named.words}, {facts}: {fits}, of {self.candidates}.{chosen}"


def verdict(limits: Limits, candidates: tuple[Candidate, ...]) -> BudgetVerdict | None:
    """Name the best candidate that keeps all limits, or the nearest one; None where there is no candidate."""
    if not candidates:
        return None
    fitting = [each for each in candidates if not misses(each, limits)]
    if fitting:
        named = min(fitting, key=lambda each: (-each.accuracy, each.size_bytes))
    else:
        named = min(candidates, key=lambda each: (_distance(each, limits), -each.accuracy, each.size_bytes))
    missed = tuple(miss.words for miss in misses(named, limits))
    return BudgetVerdict(limits=limits, candidates=len(candidates), fitting=len(fitting), named=named, misses=missed)


def misses(candidate: Candidate, limits: Limits) -> tuple[Miss, ...]:
    """The limits that a candidate does not keep."""
    return tuple(_misses(candidate, limits))


def _misses(candidate: Candidate, limits: Limits) -> Iterator[Miss]:
    if limits.bytes is not None and (more := candidate.size_bytes - limits.bytes) > 0:
        yield Miss(more / limits.bytes, f"{more:,} bytes too large")
    if limits.latency_ms is not None and (slower := candidate.latency_ms - limits.latency_ms) > 0:
        yield Miss(slower / limits.latency_ms, f"{slower:.2g} ms too slow")
    if limits.accuracy is not None and (short := limits.accuracy - 100 * candidate.accuracy) > ROUNDING:
        allowed = max(1 - limits.accuracy / 100, 1 / candidate.samples)  # Of 100 %, one wrong answer.
        yield Miss((1 - candidate.accuracy) / allowed - 1, f"{short:.2g} points short of the accuracy")


def _distance(candidate: Candidate, limits: Limits) -> tuple[float, float]:
    """How far a candidate is from the limits: by the one that it misses most, then by all."""
    excesses = [miss.excess for miss in misses(candidate, limits)]
    return max(excesses), sum(excesses)


def _limits_in_words(limits: Limits) -> str:
    words = (
        f"at most {limits.bytes:,} bytes" if limits.bytes is not None else "",
        f"at most {limits.latency_ms:g} ms" if limits.latency_ms is not None else "",
        f"at least {limits.accuracy:g}%" if limits.accuracy is not None else "",
    )
    return ", ".join(filter(None, words))
