"""Timing: how long a file takes for one sample, measured in a process of its own that does nothing else.

`python -m distill_queue.worker.exports.timing RUNNING FILE SAMPLE THREADS` prints one line of JSON. It loads no torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.text import plain_line

#: Runs of which a timing is the median, seconds after which it ends, and the fewest runs.
RUNS, SECONDS, FEWEST_RUNS = 200, 1.0, 5
DEADLINE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of a sample's way through a file, and of loading the file and answering once."""

    median_ms: float
    p95_ms: float
    cold_start_ms: float


def timed(running: str, file: Path, sample: Path, threads: int) -> Timing:
    """Time a file in a process of its own.

    Args:
        running: `package.module:Class` of what runs such files.
        file: the exported file.
        sample: `.npz` with a batch of one.
        threads: how many it may use.

    Raises:
        StageFailed: the process failed, or needs longer than `DEADLINE_SECONDS`.

    """
    command = [sys.executable, "-P", "-m", __name__, running, str(file), str(sample), str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StageFailed(f"{file.name}: a few samples take longer than {DEADLINE_SECONDS} s by {running}") from error
    if done.returncode:
        raise StageFailed(f"{file.name}: {running} fails in a process of its own: {_last_line(done.stderr)}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


def answer_times(answer: Callable[[], object]) -> list[float]:
    """Milliseconds of single answers, once warm."""
    times: list[float] = []
    deadline = time.perf_counter() + SECONDS
    while len(times) < RUNS and (time.perf_counter() < deadline or len(times) < FEWEST_RUNS):
        started = time.perf_counter()
        answer()
        times.append((time.perf_counter() - started) * 1e3)
    return times[len(times) // 10 :]  # The first ones warm up.


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return plain_line(lines[-1]) if lines else "it ended without a word"


def main() -> None:
    """Print the timing of a file."""
    running, file, sample, threads = sys.argv[1:]
    module, _, name = running.partition(":")
    opener = getattr(import_module(module), name)
    with np.load(sample) as arrays:
        samples = dict(arrays)
    getattr(opener, "load_library", lambda: None)()
    started = time.perf_counter()
    opened = opener(Path(file), int(threads))
    opened.logits(samples)
    cold = time.perf_counter() - started
    times = answer_times(lambda: opened.logits(samples))
    print(  # noqa: T201 (its caller reads it)
        json.dumps({"median_ms": median(times), "p95_ms": quantiles(times, n=20)[-1], "cold_start_ms": cold * 1e3})
    )


if __name__ == "__main__":
    main()
