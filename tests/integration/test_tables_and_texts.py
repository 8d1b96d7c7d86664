"""A table and a folder of texts from a spec to a report, each by one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill_queue.worker.machine import plugins

ROOT = Path(__file__).parents[2]
TRAINING = "training: {epochs: 2, batch_size: 16}"


def run(folder: Path, spec: str) -> str:
    """What `distill run` prints of a spec in a folder."""
    (folder / "spec.yaml").write_text(spec)
    own = {"PYTHONPATH": str(ROOT / "examples" / "custom"), "DISTILL_PLUGINS": "own"}
    command = [sys.executable, "-c", "from distill_queue.scheduler.cli.main import main; main()", "run", "spec.yaml"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=250, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return " ".join(done.stdout.split())


def test_a_table_is_a_pipeline_of_one_command(tmp_path: Path) -> None:
    rows = [f"{row % 7},{('red', 'white')[row % 2]},{('port', 'cava')[row % 2]}" for row in range(60)]
    (tmp_path / "wine.csv").write_text("\n".join(["age,colour,kind", *rows, ",red,port"]))

    said = run(
        tmp_path,
        f"""
name: wines
dataset: {{name: table, path: wine.csv, target: kind, missing: drop}}
teacher: {{model: {{name: mlp, hidden: [16]}}, {TRAINING}}}
students: [{{name: small, model: {{name: mlp, hidden: [4]}}, {TRAINING}}}]
""",
    )

    assert "prepare wine.csv: 1 missing value in 'age': 1 row was dropped (missing_values)" in said
    assert list((tmp_path / ".distill").rglob("columns.json"))


def test_a_folder_of_texts_is_a_pipeline_of_one_command(tmp_path: Path) -> None:
    for label, word in (("good", "fine"), ("bad", "dull")):
        (folder := tmp_path / "reviews" / "train" / label).mkdir(parents=True)
        for number in range(30):
            (folder / f"{number}.txt").write_text(f"number {number} was a {word} film")

    said = run(
        tmp_path,
        f"""
name: reviews
dataset: {{name: text, path: reviews, tokenizer: {{vocabulary: 300}}, length: 16}}
teacher: {{model: {{name: "own.texts:transformer", options: {{vocabulary: 300, width: 8, layers: 1}}}}, {TRAINING}}}
students: [{{name: bag, model: {{name: "own.texts:bag", options: {{vocabulary: 300}}}}, {TRAINING}}}]
""",
    )

    assert "scores on 12 test samples" in said
    assert list((tmp_path / ".distill").rglob("tokenizer.json"))


@pytest.mark.parametrize("model", ["transformer", "bag"])
def test_what_fills_up_a_text_does_not_count(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "custom"))
    build = plugins.load(f"own.texts:{model}", ("own",))
    ids, mask = torch.tensor([[5, 3, 2, 0], [7, 0, 0, 0]]), torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]]).bool()

    built = build({"ids": (4,), "mask": (4,)}, classes=3, vocabulary=8).eval()

    assert built(ids, mask).shape == (2, 3)
    torch.testing.assert_close(built(ids, mask), built(torch.where(mask, ids, 6), mask))
    assert not torch.allclose(built(ids, mask), built(torch.where(mask, 6, ids), mask))
