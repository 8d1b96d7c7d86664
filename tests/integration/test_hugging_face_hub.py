"""A data set of Hugging Face's hub, which is a server on loopback here."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import datasets

from tests.hub import serving

COMMIT, ANOTHER = "0123456789abcdef" * 2 + "01234567", "f" * 40
#: Loads the commits in its arguments; what follows `offline` without the hub.
SCRIPT = """
    import sys
    from pathlib import Path

    import datasets
    import torch

    from distill_queue.shared.spec.dataset import dataset_reader
    from distill_queue.worker.data.load import load
    from distill_queue.worker.data.reading import Reading
    from distill_queue.worker.machine.runtime import Runtime

    for commit in sys.argv[1:]:
        if commit == "offline":
            datasets.config.HF_HUB_OFFLINE = True
            continue
        text = {"length": 8, "tokenizer": {"vocabulary": 300}}
        spec = {"name": "huggingface/owner/reviews", "revision": commit, "text": text}
        try:
            arrays = load(dataset_reader().validate_python(spec), Reading(Runtime(torch.device("cpu"))))
            print(arrays.class_names, arrays.train_targets.tolist())
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
"""


def test_a_commit_is_downloaded_once_and_no_other_one_is_taken_for_it(tmp_path: Path) -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["white", "black"]))
    for split in ("train", "test"):
        rows = datasets.Dataset.from_dict({"text": [split] * 4, "label": [0, 1, 1, 0]}, features)
        (folder := tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / f"{split}-00000-of-00001.parquet")

    with serving(tmp_path / "set", "owner/reviews", COMMIT) as hub:
        own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT), COMMIT, ANOTHER, "offline", COMMIT, ANOTHER],
            cwd=tmp_path, env=os.environ | own, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    read = "('white', 'black') [0, 1, 1, 0]"
    assert done.stdout.splitlines() == [
        read,
        f"InvalidSpec: owner/reviews: Revision '{ANOTHER}' doesn't exist for dataset 'owner/reviews' on the Hub.",
        read,
        f"Unavailable: owner/reviews: the hub does not give {ANOTHER}, and the cache has another",
    ], done.stderr
    assert len([each for each in hub.asked if each.startswith("GET /datasets/")]) == 2
