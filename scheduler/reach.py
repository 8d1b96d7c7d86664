"""The reach of pipelines: which artifacts they need, as far as the broker and the store know of them."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from shared.ledger import Ledger
from shared.plan import Plan
from shared.stage import Bundle, bundle_ref
from shared.submissions import Submissions

_KEY = re.compile(r"\b[0-9a-f]{64}\b")


@dataclass(frozen=True, slots=True)
class Reach:
    """What pipelines need, and what is worked on, at one moment."""

    #: Ids of the pipelines that need a key: of an artifact, or of a bundle's unfinished work.
    pipelines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: Keys that a worker works on, bundles' too.
    worked_on: frozenset[str] = frozenset()

    @classmethod
    def now(cls, ledger: Ledger | None, submissions: Submissions) -> Self:
        """What the broker's pipelines need, where there is a broker, and those that the store keeps.

        Raises:
            Unavailable: one of them cannot be asked.

        """
        # The broker first: of a pipeline that is submitted between the two looks, the store knows before the broker.
        texts = [*(ledger.plan_texts() if ledger else ()), *submissions.texts()]
        leased = ledger.leased() if ledger else set()
        pipelines, worked_on = defaultdict[str, dict[str, None]](dict), set(leased)
        for pipeline, text in texts:
            for key in set(_KEY.findall(text)):
                pipelines[key][pipeline] = None
            for bundle in _bundles(text):
                pipelines[bundle_ref(bundle).key][pipeline] = None
                if not leased.isdisjoint(stage.key for stage in bundle):
                    worked_on.add(bundle_ref(bundle).key)
        return cls({key: tuple(sorted(ids)) for key, ids in pipelines.items()}, frozenset(worked_on))


def _bundles(text: str) -> Iterator[Bundle]:
    """The bundles of a plan or a submission; none of what another version wrote: its keys are known from its text."""
    try:
        facts = json.loads(text)
        plan = Plan.model_validate(facts.get("plan", facts))
    except (ValueError, AttributeError, RecursionError):
        return
    branches: Iterable[tuple[Bundle, ...]] = (*plan.branches, plan.tail)
    yield from (bundle for branch in branches for bundle in branch)
