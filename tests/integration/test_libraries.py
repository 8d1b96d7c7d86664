"""What the libraries below torch are told."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from distill_queue.worker.machine import libraries
libraries.set_up()
import torch
from distill_queue.worker.stages.soft_labels import logits_of_rows
torch.manual_seed(0)
for features, classes, rows in ((20_000, 10, 8), (784, 512, 2), (20_000, 512, 1_024), (784, 512, 64)):
    layer, inputs, found = torch.nn.Linear(features, classes), torch.randn(rows, features), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        with torch.inference_mode():
            found.append(logits_of_rows(layer, inputs))
    print(all(torch.equal(found[0], other) for other in found))
"""


def test_logits_have_the_same_bits_with_any_number_of_threads() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "MKL_CBWR"} | {"OMP_NUM_THREADS": "3"}

    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["True"] * 4


def test_a_worker_goes_through_sets_in_the_same_order_every_time() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    script = (
        "from distill_queue.worker.machine import libraries; libraries.restart_set_up(); print({*map(str, range(99))})"
    )

    orders = {
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
        for _ in range(2)
    }

    assert len(orders) == 1


def test_data_that_a_client_reads_go_through_sets_in_the_order_of_a_workers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def data():\n"
        "    samples = [[float(row)] for row in range(9)], list(range(9))\n"
        "    return {'train': samples, 'test': samples, 'class_names': list({*map(str, range(9))})}\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    environment |= {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}", "DISTILL_PLUGINS": "mine"}
    ask, order = ["-P", "-m", "distill_queue.worker.offline"], ["-c", "print(list({*map(str, range(9))}))"]

    given, expected = (
        subprocess.run(
            [sys.executable, *arguments], input='{"data": {"name": "mine:data"}}', env=environment | more,
            capture_output=True, text=True, check=True,
        ).stdout
        for arguments, more in ((ask, {}), (order, {"PYTHONHASHSEED": "0"}))
    )  # fmt: skip

    assert json.loads(given)["result"]["class_names"] == ast.literal_eval(expected)
