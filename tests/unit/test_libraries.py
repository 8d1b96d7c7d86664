"""What the libraries below torch are told."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
from worker import libraries
libraries.set_up()
import torch
from worker.labelling import logits_of_rows
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
    script = "from worker import libraries; libraries.restart_set_up(); print({*map(str, range(99))})"

    orders = {
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True).stdout
        for _ in range(2)
    }

    assert len(orders) == 1
