"""Exports to ONNX: the same bytes anywhere, answers for batches of any size, and what cannot be exported says why."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.shared.errors import StageFailed
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.records import laid_together
from distill_queue.worker.data.split import Split
from distill_queue.worker.evaluation import quality
from distill_queue.worker.exports import onnx as exporter
from distill_queue.worker.exports.deployable import deployable, raw_batches
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.gate import Comparison, require_each_alone
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.exports.onnx_file import File
from distill_queue.worker.models.cnn import CnnWithDropout

pytest.importorskip("onnxscript")
RANDOM = np.random.default_rng(0)
SAMPLES = 300
IMAGES = RANDOM.integers(0, 256, (SAMPLES, 1, 12, 12)).astype(np.uint8)


def split_of(folder: Path, inputs: Any) -> Split:
    """Samples of three classes, as the test set of a packed data set."""
    targets = np.arange(len(inputs)) % 3
    names = ("a", "b", "c")
    record = Arrays(inputs, targets, inputs, targets, names, own=True).save(folder)
    return Split.open(folder, "test", record, torch.device("cpu"))


def exported(model: nn.Module, split: Split, path: Path) -> None:
    """Export a model, and have its file's answers pass the gate, in batches of several sizes."""
    reference = quality.logits_of(model, split, lambda *_: None).numpy()
    deployed = deployable(model, split)
    facts = FileFacts(("a", "b", "c"), "k" * 64, "d" * 64, deployed.inputs)
    exporter.write(ExportJob("export s to onnx", deployed, facts, lambda: iter(())), path)
    file = File(path)
    for size in (SAMPLES, 7, 1):
        logits = np.concatenate([file.logits(each) for each in raw_batches(split, deployed.inputs, size)])
        Comparison.of(logits, reference, split.targets.numpy()).require_same(f"batches of {size}")
    require_each_alone("export s to onnx", reference, logits)


class Several(nn.Module):
    """A model of four inputs, of which it does not use one."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.EmbeddingBag(9, 4), nn.Linear(6, 3)

    def forward(self, ids: torch.Tensor, row: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        return self.head(torch.cat((self.words(ids), row), 1))


def several() -> Any:
    columns: Mapping[str, Any] = {
        "mask": RANDOM.integers(0, 2, (SAMPLES, 5)).astype(bool),
        "ids": RANDOM.integers(0, 9, (SAMPLES, 5)).astype(np.int16),
        "row": RANDOM.normal(3, 2, (SAMPLES, 2)),
        "age": RANDOM.integers(0, 99, SAMPLES).astype(np.uint8),
    }
    return laid_together("mine", columns)


def test_a_bag_of_words_and_a_row_give_a_file_without_a_trace_in_its_loops(tmp_path: Path) -> None:
    torch.manual_seed(0)

    exported(Several(), split_of(tmp_path, several()), path := tmp_path / "model.onnx")

    content = path.read_bytes()
    assert [each for each in (b".py", b"site-packages", os.fsencode(Path.cwd()), b"File ") if each in content] == []


def test_an_export_leaves_the_process_as_it_was_and_says_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def state() -> tuple[object, ...]:
        loggers = [logging.getLogger(), *map(logging.getLogger, ("torch", "onnxscript", "onnx_ir"))]
        levels = [(each.level, each.disabled, len(each.handlers)) for each in loggers]
        of_torch = torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_rng_state()
        return levels, logging.root.manager.disable, list(warnings.filters), str(of_torch)

    split = split_of(tmp_path, IMAGES)
    torch.manual_seed(0)
    model = CnnWithDropout(1, 4, 2, 3, 0.5)
    before = state()

    for name in ("one", "two"):
        exported(model, split, tmp_path / name)

    assert state() == before
    assert "".join(capfd.readouterr()) == ""
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert "BatchNormalization" not in File(tmp_path / "one").operators


SCRIPT = """
    import sys
    from pathlib import Path

    from distill_queue.worker.machine import libraries
    libraries.set_up()
    import numpy as np
    import torch

    from tests.integration.test_exports import exported, split_of
    from mine import Model

    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 256, (300, 1, 12, 12)).astype(np.uint8)
    exported(Model(), split_of(Path.cwd(), images), Path("model.onnx"))
"""
MODEL = """
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(144, 3)

        def forward(self, inputs):
            return self.head(self.norm(inputs).flatten(1))
"""


def test_two_processes_in_two_folders_write_the_same_bytes_and_nothing_of_where_they_are(tmp_path: Path) -> None:
    for number, name in enumerate(("here", "elsewhere")):
        (folder := tmp_path / name).mkdir()
        (folder / "mine.py").write_text(textwrap.dedent(MODEL))
        environment = os.environ | {
            "PYTHONHASHSEED": str(number),
            "PYTHONPATH": os.pathsep.join((str(folder), str(Path.cwd()))),
        }
        subprocess.run([sys.executable, "-c", textwrap.dedent(SCRIPT)], cwd=folder, env=environment, check=True)

    content = (tmp_path / "here" / "model.onnx").read_bytes()

    assert content == (tmp_path / "elsewhere" / "model.onnx").read_bytes()
    hidden = [os.fsencode(tmp_path), os.fsencode(Path.cwd()), b"elsewhere", b".py", b"Traceback", b"File "]
    assert [each for each in hidden if each in content] == []


class Rubbish(nn.Module):
    """A model that cannot be exported, or should not be."""

    def __init__(self, does: Any) -> None:
        super().__init__()
        self.head, self.does = nn.Linear(144, 3), does

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.does(self.head(inputs.flatten(1)))
        return logits


def _chooses(logits: torch.Tensor) -> torch.Tensor:
    if logits.mean() > 0:
        return logits * 2
    return logits


def _loops(logits: torch.Tensor) -> torch.Tensor:
    return torch.stack([each * 2 for each in logits])


def _is_unknown(logits: torch.Tensor) -> torch.Tensor:
    return logits + torch.linalg.svdvals(logits[:, None])


def _in_bfloat16(logits: torch.Tensor) -> torch.Tensor:
    return (logits.bfloat16() @ torch.eye(3, dtype=torch.bfloat16)).float()


def _by_the_batch(logits: torch.Tensor) -> torch.Tensor:
    return logits / logits.abs().max().item()


@pytest.mark.parametrize(
    ("does", "problem"),
    [
        (_chooses, r"depends on values of its input \(test_exports.py:\d+\): instead of 'if'.*torch.where"),
        (_loops, r"the size of a batch is part of the model: take sizes from the tensor"),
        (_is_unknown, r"ONNX has nothing for torch's operation 'aten\._linalg_svd' \(test_exports.py:\d+\): write"),
        (_in_bfloat16, r"onnxruntime cannot run the exported file: .*bfloat16"),
        (_by_the_batch, r"the exported file answers otherwise than the student"),
    ],
)
def test_what_cannot_be_exported_is_named_with_its_line_and_the_way_out(
    tmp_path: Path, does: Any, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)

    with pytest.raises(StageFailed, match=problem):
        exported(Rubbish(does), split_of(tmp_path, IMAGES), tmp_path / "model.onnx")

    assert "".join(capfd.readouterr()) == ""
