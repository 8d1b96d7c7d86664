"""Checks: verifies everything that can be wrong with a cache of soft labels."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from distill_queue.scheduler.labels.caches import Cache
from distill_queue.scheduler.offline import ask
from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, DistillError, InvalidInput
from distill_queue.shared.soft_labels.statistics import LabelStatistics, better_than_chance


@dataclass(frozen=True, slots=True)
class Check:
    """One check and its result; `passed` is None if it could not be carried out."""

    name: str
    passed: bool | None
    detail: str


def verify(cache: Cache, rows: int, seed: int, tolerance: float) -> Iterator[Check]:
    """Check all that can be wrong with a cache; a check that damage elsewhere prevents has failed."""
    labels, header = cache.labels, cache.labels.header
    size = f"{header.views:,} x {header.samples:,} rows, {header.encoding.name}, {header.size_bytes / 1e6:,.1f} MB"
    yield Check("structure", True, size)
    try:
        labels.verify()
    except ArtifactDamaged as error:
        yield Check("checksums", False, str(error))
        return
    yield Check("checksums", True, f"{header.blocks:,} blocks, each row in one of them")
    for name, check in (
        ("data", _accuracy),
        ("teacher", partial(_recomputed, rows=rows, seed=seed, tolerance=tolerance)),
    ):
        try:
            passed, detail = check(cache)
        except DistillError as error:
            passed, detail = False, str(error)
        yield Check(name, passed, detail)


def _accuracy(cache: Cache) -> tuple[bool | None, str]:
    """Whether the labels are as accurate as their record says or, without a record, better than chance."""
    targets, record = cache.targets, cache.record
    if targets is None:
        return None, "the data set is not in the store"
    if len(targets) != len(cache.labels):
        return False, f"labels of {len(cache.labels):,} samples, data of {len(targets):,}"
    accuracy = LabelStatistics.of(cache.labels, targets).accuracy
    detail = f"first class right on {accuracy:.2%} of the samples"
    if record is None:
        if better_than_chance(accuracy, targets):
            return True, detail
        return False, f"{detail}, no more than by chance: the rows are not in the order of the samples"
    same = abs(accuracy - record.accuracy) < 1e-9
    return same, detail + ("" if same else f", and on {record.accuracy:.2%} when it was made")


def _recomputed(cache: Cache, rows: int, seed: int, tolerance: float) -> tuple[bool | None, str]:
    """Whether random rows, computed again, are as they are stored."""
    if cache.ref is None:
        return None, "the cache is not in the store: its teacher is not known"
    try:
        found = ask({"recompute": cache.ref.model_dump(), "rows": rows, "seed": seed})
    except (InvalidInput, ArtifactMissing) as error:  # There is no teacher, or the store lacks it.
        return None, str(error)
    detail = (
        f"{found['rows']} random rows (seed {seed}) again: off by {found['error']:.1e} of their largest logit, "
        f"beyond rounding (tolerance {tolerance:g})"
    )
    if found["error"] <= tolerance:
        return True, detail
    return False, f"{detail}: sample {found['sample']:,} of view {found['view']}"


def random_seed() -> int:
    """A seed for random rows that cannot be foreseen."""
    return secrets.randbelow(2**31)
