"""Two workers on one card: whether pipelines are done sooner than by one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.gpu.pipelines import finish, spec, workers
from benchmarks.gpu.section import Part, Section, Setting

PIPELINES, EPOCHS = 4, 5


def measure(setting: Setting) -> Iterator[Part]:
    """Time pipelines of different seeds by one worker and by two, which have each done another one before."""
    pipelines, epochs = (2, 1) if setting.dry else (PIPELINES, EPOCHS)
    alone = 0.0
    for count in (1, 2):
        with workers(setting, f"workers-{count}", count) as (stack, client):
            finish(stack, client, [client.submit(spec(setting, epochs=1, seed=100 + each)).id for each in range(count)])
            started = time.monotonic()
            ids = [client.submit(spec(setting, epochs=epochs, seed=seed)).id for seed in range(pipelines)]
            finish(stack, client, ids)
            seconds = time.monotonic() - started
            names = {state.worker for each in ids for state in client.status(each).states.values()}
        alone = alone or seconds
        yield {
            "workers": count,
            "at work": len(names - {""}),
            "pipelines": pipelines,
            "seconds": seconds,
            "times as fast": alone / seconds,
        }


SECTION = Section("two_workers", "Two workers on one card", 60.0, measure)
