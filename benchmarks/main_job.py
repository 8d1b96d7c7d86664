"""The main job against the notebook it comes from: same data, models and epochs, in turn in one process tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from shared.records import EvaluationRecord, PipelineResults
from shared.spec import PipelineSpec

SPEC = Path(__file__).parents[1] / "examples" / "fashion-mnist.yaml"
DISTILL = Path(sys.executable).with_name("distill")
ROUNDS = 3


def main() -> None:
    """Run both in turn, and print the medians and their ratios."""
    notebooks, systems = [], []
    for seed in range(ROUNDS):
        notebooks.append(notebook(seed))
        systems.append(system(seed))
    table = Table(title=f"Fashion-MNIST, 5 + 5 epochs: medians of {ROUNDS} seeds in turn, {os.cpu_count()} cores")
    for name in ("", "notebook", "distill run", "ratio"):
        table.add_column(name, justify="left" if not name else "right")
    for row, key in (
        ("teacher, training s", "teacher_seconds"),
        ("student, training s", "student_seconds"),
        ("both, training s", "training_seconds"),
        ("whole process from a cold start, s", "whole_seconds"),
    ):
        theirs, ours = _median(notebooks, key), _median(systems, key)
        table.add_row(row, f"{theirs:.2f}", f"{ours:.2f}", f"{theirs / ours:.1f}x")
    for row, key in (("teacher, test accuracy", "teacher_accuracy"), ("student, test accuracy", "student_accuracy")):
        table.add_row(row, f"{_median(notebooks, key):.2%}", f"{_median(systems, key):.2%}", "")
    Console(width=100).print(table)


def notebook(seed: int) -> dict[str, float]:
    """Figures of the notebook, in a process of its own."""
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.notebook", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return _with_totals(figures, time.monotonic() - started)


def system(seed: int) -> dict[str, float]:
    """Figures of `distill run` with an empty store: server, worker, control, evaluations and report included."""
    with tempfile.TemporaryDirectory() as folder:
        path, spec = Path(folder) / "results.json", Path(folder) / "spec.json"
        spec.write_text(json.dumps(_seeded(seed)))
        started = time.monotonic()
        subprocess.run(
            [DISTILL, "run", spec, "--json", path],
            env=os.environ | {"DISTILL_STORE": folder},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        seconds = time.monotonic() - started
        results = PipelineResults.model_validate_json(path.read_text())
    teacher, student = results.scores.teacher, results.scores.students[0].student
    return _with_totals(
        {
            "teacher_seconds": _training(teacher),
            "student_seconds": _training(student),
            "teacher_accuracy": teacher.accuracy,
            "student_accuracy": student.accuracy,
        },
        seconds,
    )


def _seeded(seed: int) -> dict[str, Any]:
    """The example, every model of it trained from a seed."""
    data: dict[str, Any] = PipelineSpec.load(SPEC).model_dump(mode="json", exclude_unset=True)
    for model in (data["teacher"], *data["students"]):
        model["training"]["seed"] = seed
    return data


def _training(record: EvaluationRecord) -> float:
    if record.training_seconds is None:
        raise SystemExit("error: the model was not trained")
    return record.training_seconds


def _with_totals(figures: dict[str, float], whole_seconds: float) -> dict[str, float]:
    training = figures["teacher_seconds"] + figures["student_seconds"]
    return figures | {"training_seconds": training, "whole_seconds": whole_seconds}


def _median(rows: list[dict[str, Any]], key: str) -> float:
    return median(row[key] for row in rows)


if __name__ == "__main__":
    main()
