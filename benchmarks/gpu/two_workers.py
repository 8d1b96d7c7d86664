"""Two workers on one card: whether pipelines are done sooner than by one."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator

from benchmarks.gpu.pipelines import finish, spec, workers
from benchmarks.gpu.section import Part, Section, Setting
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack

PIPELINES, EPOCHS = 4, 2
#: The first seed of pipelines that warm workers up.
WARM_UP = 100


def measure(setting: Setting) -> Iterator[Part]:
    """Time pipelines of different seeds by one worker and by two, which have each done something before.

    Raises:
        RuntimeError: not all workers were at work.

    """
    pipelines, epochs = (2, 1) if setting.dry else (PIPELINES, EPOCHS)
    alone = 0.0
    for count in (1, 2):
        with workers(setting, f"workers-{count}", count) as (stack, client):
            warmed_up: set[str] = set()
            seeds = itertools.count(WARM_UP)
            while len(warmed_up) < count:
                warmed_up |= _at_work(stack, client, setting, itertools.islice(seeds, count), epochs=1)
            started = time.monotonic()
            at_work = _at_work(stack, client, setting, range(pipelines), epochs)
            seconds = time.monotonic() - started
        alone = alone or seconds
        yield {
            "workers": count,
            "at work": len(at_work),
            "pipelines": pipelines,
            "seconds": seconds,
            "times as fast": alone / seconds,
        }
        if len(at_work) < count:
            raise RuntimeError(f"{len(at_work)} of {count} workers were at work")
    yield f"{epochs} epochs of each model; the workers had each done something before"


def _at_work(
    stack: LocalStack, client: PipelineClient, setting: Setting, seeds: Iterable[int], epochs: int
) -> set[str]:
    """Run a pipeline of each seed; return the names of the workers that did it."""
    ids = [client.submit(spec(setting, epochs=epochs, seed=seed)).id for seed in seeds]
    finish(stack, client, ids)
    return {state.worker for each in ids for state in client.status(each).states.values()} - {""}


SECTION = Section("two_workers", "Two workers on one card", 100.0, measure)
