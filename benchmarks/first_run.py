"""Whether the quickstart's student beats its control with other seeds too, as `make demo` shows: five fresh stores."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.report.sentences import estimated, percent
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

SPEC = Path(__file__).parents[1] / "examples" / "quickstart.yaml"
STORES = 5
#: Of the five stores, those in which the student must be better.
ENOUGH = 4
#: Between the first seeds of two stores: no seed is used twice, and the spec's own are not used at all.
STEP = 100


def main() -> None:
    """Run all, print a table, and exit with 1 if the student is better in too few of the stores."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    table = Table(title="examples/quickstart.yaml with other seeds, each in a store of its own")
    for name in ("seeds from", "teacher", "student", "control", "gain, points", "verdict", "seconds"):
        table.add_column(name, justify="right")
    verdicts = []
    for number in range(1, STORES + 1):
        started = time.monotonic()
        results = run_from(STEP * number)
        (score,), teacher = results.scores.students, results.scores.teacher
        assert teacher, "the quickstart has a teacher"
        assert score.control_accuracy, "the quickstart has a control"
        assert score.gain, "the quickstart has a control"
        accuracies = (teacher.accuracy, score.accuracy.mean, score.control_accuracy.mean)
        seconds = f"{time.monotonic() - started:.1f}"
        shares = (percent(accuracy, 2) for accuracy in accuracies)
        table.add_row(str(STEP * number), *shares, estimated(score.gain), score.verdict, seconds)
        verdicts.append(score.verdict)
    Console(width=110).print(table)
    sys.exit(verdicts.count("better") < ENOUGH)


def run_from(seed: int) -> PipelineResults:
    """Results of the quickstart in an empty store, its teacher and students trained from other seeds."""
    spec: dict[str, Any] = PipelineSpec.load(SPEC).model_dump(mode="json", exclude_unset=True)
    for model in (spec["teacher"], *spec["students"]):
        model["training"]["seed"] = seed
    with tempfile.TemporaryDirectory() as store, LocalStack(Settings(store=store), workers=1) as stack:
        client = PipelineClient(stack.settings)
        pipeline = client.submit(spec)
        for _ in client.watch(pipeline):
            pass
        return client.results(pipeline)


if __name__ == "__main__":
    main()
