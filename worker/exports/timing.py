"""Timing: how long a file takes for one sample, measured in a process of its own that does nothing else.

`python -m distill_queue.worker.exports.timing RUNNING FILE SAMPLE THREADS` prints one line of JSON. It loads no torch.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles

import numpy as np

#: Runs of which a timing is the median, and seconds after which it ends.
RUNS, SECONDS = 200, 1.0
WARM_UP_RUNS = 10
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
        RuntimeError: the process failed.

    """
    command = [sys.executable, "-P", "-m", __name__, running, str(file), str(sample), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS)  # noqa: S603
    if done.returncode:
        raise RuntimeError(done.stderr.strip())
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


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
    for _ in range(WARM_UP_RUNS):
        opened.logits(samples)
    times: list[float] = []
    deadline = time.perf_counter() + SECONDS
    while len(times) < RUNS and (time.perf_counter() < deadline or len(times) < 5):
        started = time.perf_counter()
        opened.logits(samples)
        times.append((time.perf_counter() - started) * 1e3)
    print(  # noqa: T201 (its caller reads it)
        json.dumps({"median_ms": median(times), "p95_ms": quantiles(times, n=20)[-1], "cold_start_ms": cold * 1e3})
    )


if __name__ == "__main__":
    main()
