"""Needed artifacts: the artifacts of pipelines that the broker or the store still knows."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Self

from pydantic_core import from_json

from distill_queue.shared.broker.signing import unsealed
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.stage import bundle_key
from distill_queue.shared.store.submissions import Submissions

#: The length of a key, in hexadecimal digits.
KEY_CHARACTERS = 64
_KEY = re.compile(rf"\b[0-9a-f]{{{KEY_CHARACTERS}}}\b")


@dataclass(frozen=True, slots=True)
class NeededArtifacts:
    """What pipelines need, and what workers work on, at one moment."""

    #: Ids of the pipelines that need a key; it is an artifact's, or that of a bundle's unfinished work.
    pipelines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Keys that a worker works on, including those of bundles.
    worked_on: frozenset[str] = frozenset()

    @classmethod
    def now(cls, ledger: Ledger | None, submissions: Submissions) -> Self:
        """What the pipelines at the broker need, if there is one, and those that the store keeps.

        Raises:
            Unavailable: broker or store does not answer.

        """
        # The broker first: a pipeline that is submitted meanwhile is in the store before it is at the broker.
        texts = chain(ledger.plan_texts() if ledger else (), submissions.texts())
        pipelines, bundles = defaultdict[str, dict[str, None]](dict), dict[str, set[str]]()
        for pipeline, text in texts:
            for key in _keys(text):
                pipelines[key][pipeline] = None
            for keys in _bundles(text):
                bundle = bundle_key(keys)
                bundles[bundle] = keys
                pipelines[bundle][pipeline] = None
        leased = ledger.leased() if ledger else set()
        worked_on = leased | {bundle for bundle, keys in bundles.items() if not leased.isdisjoint(keys)}
        return cls({key: tuple(sorted(ids)) for key, ids in pipelines.items()}, frozenset(worked_on))


def _keys(text: str) -> set[str]:
    """The keys in any text."""
    # Keys in JSON stand between quotes; looking for keys in shorter parts too takes three times as long.
    long_enough = {part for part in text.split('"') if len(part) >= KEY_CHARACTERS}
    return {key for part in long_enough for key in _KEY.findall(part)}


def _bundles(text: str) -> Iterator[set[str]]:
    """The keys of each bundle of several stages in a plan or a submission, if its JSON has the known shape."""
    # Not read as a `Plan`: that takes ten times as long, and fails for one of another version.
    with suppress(ValueError, TypeError, AttributeError, LookupError):
        facts = from_json(unsealed(text))
        plan = facts.get("plan", facts)
        later = plan.get("later", ())
        steps = chain.from_iterable(generation["steps"] for generation in later)
        branches = chain(plan["branches"], *(generation["branches"] for generation in later))
        for bundle in chain(*branches, steps, plan.get("tail", ())):
            if len(bundle) > 1:
                yield {str(stage["key"]) for stage in bundle}
