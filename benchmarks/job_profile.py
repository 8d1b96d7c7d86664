"""Where the time of one whole job goes, from what the system records anyway: `benchmarks.main_job --profile`.

The ledger has when each stage ended and how long its task took, a manifest how long the stage's own work took, without
its lease and its commit, and a training's record how long its steps took. The page's file has when it was written.
Nothing is added to the code that is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Evaluate, PrepareData, SoftLabelling, Training
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import EvaluationRecord, TrainingRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.evaluation.cost import TIMING_RUNS, TIMING_SECONDS

#: Seconds by row, in the table's order.
Seconds = dict[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A pipeline that was run, and what is known of the process that ran it; times in seconds since the epoch."""

    plan: Plan
    records: Sequence[StageRecord]
    store: ArtifactStore
    #: When it was submitted, or the process began that submitted it.
    started: float
    #: When the client knew the results, or its process ended.
    ended: float
    #: When the page was there, where the process waited for it.
    page: float | None = None

    def seconds(self) -> Seconds:
        """Seconds of each part; those of stages are of all workers, and what ran side by side is taken off again."""
        spans = sorted((record.ended - record.seconds, record.ended) for record in self.records)
        first, last = spans[0][0], max(end for _, end in spans)
        busy = sum(_covered(spans))
        written = last if self.page is None else max(self.page, last)
        rows: Seconds = {
            "from the message to the first stage" if self.page is None else "from the start to the first stage": (
                first - self.started
            ),
        }
        for stage in self.plan.stages:
            for row, seconds in self._of_stage(stage):
                rows[row] = rows.get(row, 0.0) + seconds
        rows["of these, side by side with another"] = busy - sum(record.seconds for record in self.records)
        rows["waiting between stages"] = last - first - busy
        rows["the page of the report"] = written - last
        rows["until the client knows" if self.page is None else "showing results, ending all"] = self.ended - written
        return rows

    def _of_stage(self, stage: Stage) -> Iterator[tuple[str, float]]:
        record = next(each for each in self.records if each.key == stage.key)
        manifest, recipe = self.store.glance(stage.ref).manifest, stage.recipe
        around, own = record.seconds - manifest.seconds, manifest.seconds
        if isinstance(recipe, PrepareData):  # The first one: its task imports torch where the worker has not.
            yield "preparing the data", own
            yield "the same: importing torch, lease, hashes, writing", around
            return
        if isinstance(recipe, Training) and isinstance(manifest.record, TrainingRecord):
            yield f"{_whose(stage)}: steps", manifest.record.seconds
            yield "trainings: reading, normalising, the probe", own - manifest.record.seconds
        elif isinstance(recipe, SoftLabelling):
            yield "soft labels", own
        elif isinstance(recipe, Evaluate) and isinstance(manifest.record, EvaluationRecord):
            timing = _timing(manifest.record)
            yield "evaluations: latency and throughput", timing
            yield "evaluations: the rest", max(0.0, own - timing)
        else:
            yield "comparing students", own
        yield "all other stages: leases, hashes, writing", around


def _whose(stage: Stage) -> str:
    return {"train_teacher": "teacher", "distill": "student"}.get(stage.kind, "control")


def _timing(record: EvaluationRecord) -> float:
    """Seconds that an evaluation took its times for, by its own limits: the record has medians only."""
    batch = min(record.samples, 1_024) / record.throughput
    return sum(min(TIMING_SECONDS, TIMING_RUNS * each) for each in (record.latency_median_ms / 1e3, batch))


def _covered(spans: Sequence[tuple[float, float]]) -> Iterator[float]:
    """Seconds in which at least one of some spans, in the order of their beginnings, is under way."""
    reached = 0.0
    for begin, end in spans:
        yield max(0.0, end - max(begin, reached))
        reached = max(reached, end)
