"""The example of a user's own data, model and loss: what its functions return, and a short run of its pipeline."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.func import vmap

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import models
from distill_queue.worker.data import load as data
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.split import Split
from distill_queue.worker.exports.deployable import Deployable, RawInput
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.losses import kl
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom"
CPU = Runtime(torch.device("cpu"), plugins=("own",))
#: Prints a digest of the example's data.
DIGEST = """
from hashlib import sha256
from own.data import source_lines
print(sha256(b"".join(source_lines(lines_a_class=50)["train"][0])).hexdigest())
"""

Load = Callable[[str], Any]


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Let `own` be imported, as PYTHONPATH does, and load its callables as a worker does."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return lambda reference: plugins.load(reference, CPU.plugins)


def spec() -> PipelineSpec:
    return PipelineSpec.load(EXAMPLE / "text.yaml")


def short_spec() -> PipelineSpec:
    """The example with few lines, labels, seeds and epochs."""
    text = yaml.safe_load((EXAMPLE / "text.yaml").read_text())
    text["dataset"] |= {"options": {"length": 24, "lines_a_class": 50}, "labelled": 80}
    for part in (text["teacher"], *text["students"]):
        part["training"]["epochs"] = 1
    for student in text["students"]:
        student["seeds"] = 1
    return PipelineSpec.model_validate(text)


def run_all(spec: PipelineSpec, folder: Path) -> dict[str, Artifact]:
    runner = StageRunner(FolderStore(folder), CPU, lambda *_: None)
    return {stage.title: runner.run(stage) for stage in Plan.of(spec).stages}


def test_every_line_is_tokens_and_then_nothing(own: Load) -> None:
    given = own("own.data:source_lines")(length=32, lines_a_class=100)

    for split, lines in (("train", 80), ("test", 20)):
        inputs, targets = given[split]
        assert (inputs.dtype, inputs.shape) == (np.int16, (8 * lines, 32))
        assert inputs.min() == 0
        assert inputs.max() < 256
        assert (np.diff((inputs > 0).astype(int), axis=1) <= 0).all(), "no 0 stands between two bytes"
        assert np.bincount(targets).tolist() == [lines] * len(given["class_names"])


def test_there_are_lines_enough_in_every_package(own: Load) -> None:
    given = own("own.data:source_lines")(**spec().dataset.options)

    assert np.bincount(given["train"][1]).tolist() == [1_600] * 8
    assert np.bincount(given["test"][1]).tolist() == [400] * 8


@pytest.mark.parametrize("length", [16, 64])
def test_no_line_is_there_twice(own: Load, length: int) -> None:
    given = own("own.data:source_lines")(length=length)

    lines = [row.tobytes() for split in ("train", "test") for row in given[split][0]]

    assert len(set(lines)) == len(lines)


def test_the_lines_are_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            env=os.environ | {"PYTHONPATH": str(EXAMPLE), "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(digests) == 1


def test_the_models_of_the_spec_take_the_lines_and_know_the_classes(tmp_path: Path) -> None:
    arrays = data.load(NamedDatasetSpec(name="own.data:source_lines", options={"lines_a_class": 50}), Reading(CPU))
    record = arrays.save(tmp_path)
    batch = Split.open(tmp_path, "test", record, CPU.device).normalised(slice(0, 5))
    longer = torch.cat((batch, torch.zeros_like(batch)), 1)

    teacher, student = (models.build(part.model, record, CPU).eval() for part in (spec().teacher, spec().students[0]))

    assert record.tokens
    assert batch.dtype == torch.int64
    for model in (teacher, student):
        assert model(batch).shape == (5, 8)
        torch.testing.assert_close(model(batch), model(longer), msg="what follows a line does not count")
    assert models.parameters(student) < models.parameters(teacher) / 10


def logits(scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A student's and a teacher's logits, and targets."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 32, 8, generator=generator) * scale
    return student, teacher, torch.randint(0, 8, (32,), generator=generator)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_loss_is_the_divergence_that_it_is_named_for(own: Load, temperature: float) -> None:
    jensen_shannon = own("own.losses:jensen_shannon")
    student, teacher, targets = logits()
    p, q = ((values.double() / temperature).softmax(1) for values in (teacher, student))
    mean = (p + q) / 2
    rows = (p * (p / mean).log() + q * (q / mean).log()).sum(1) / 2

    loss = jensen_shannon(student, teacher, targets, temperature=temperature)

    assert loss.item() == pytest.approx(temperature**2 * rows.mean().item(), rel=1e-4)
    assert loss.item() < temperature**2 * math.log(2.0)
    assert jensen_shannon(teacher, teacher, targets, temperature=temperature).item() == pytest.approx(0.0, abs=1e-6)


def test_close_to_the_teacher_the_loss_is_a_quarter_of_kl(own: Load) -> None:
    student, _, targets = logits(1.0)
    teacher = student + logits(0.1)[1]

    loss = own("own.losses:jensen_shannon")(student, teacher, targets, temperature=2.0)

    assert loss.item() == pytest.approx(kl(student, teacher, temperature=2.0).item() / 4, rel=0.02)


def test_the_loss_takes_float16_and_extreme_logits_and_no_labels(own: Load) -> None:
    student, teacher, _ = (values.clamp(-6e4, 6e4) for values in logits(2e4))
    student.requires_grad_()
    unlabelled = torch.full((32,), -1)

    loss = own("own.losses:jensen_shannon")(student, teacher.half(), unlabelled, temperature=0.5)
    loss.backward()

    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_a_gradient_brings_the_student_closer_to_the_teacher(own: Load) -> None:
    jensen_shannon = own("own.losses:jensen_shannon")
    student, teacher, targets = logits()
    student.requires_grad_()

    before = jensen_shannon(student, teacher, targets, temperature=2.0)
    (gradient,) = torch.autograd.grad(before, student)

    assert jensen_shannon(student - gradient, teacher, targets, temperature=2.0) < before


def test_the_loss_of_stacked_students_is_each_ones_own(own: Load) -> None:
    jensen_shannon = own("own.losses:jensen_shannon")
    student, teacher, targets = logits()
    stacked = [values.expand(3, *values.shape) for values in (student, teacher, targets)]
    temperatures = torch.tensor([1.0, 2.0, 4.0])

    together = vmap(lambda s, t, y, each: jensen_shannon(s, t, y, temperature=each))(*stacked, temperatures)

    alone = [jensen_shannon(student, teacher, targets, temperature=each) for each in temperatures.tolist()]
    torch.testing.assert_close(together, torch.stack(alone))


def test_a_file_for_numpy_answers_as_the_student_that_it_was_made_from(own: Load, tmp_path: Path) -> None:
    numpy_file = own("own.formats:NumpyFile")
    torch.manual_seed(0)
    pixels = RawInput("input", torch.uint8, (1, 4, 4), torch.tensor([[[33.0]]]), torch.tensor([[[70.0]]]))
    student = Deployable(models.Mlp(16, (8, 5), 3), (pixels,), named=False).eval()
    facts = FileFacts(("a", "b", "c"), "", "", (pixels,))
    images = torch.randint(0, 256, (9, 1, 4, 4), dtype=torch.uint8)

    numpy_file.write(ExportJob("student", student, facts, lambda: iter(())), tmp_path / "model.npz")

    answers = numpy_file(tmp_path / "model.npz", 1).logits({"input": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(answers), student(images).detach())


def test_a_file_for_numpy_is_of_an_mlp(own: Load, tmp_path: Path) -> None:
    numbers = RawInput("input", torch.float32, (1, 4, 4), torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
    student = Deployable(models.Cnn(1, 4, 1, 3), (numbers,), named=False)
    job = ExportJob("small", student, FileFacts(("a", "b", "c"), "", "", (numbers,)), lambda: iter(()))

    with pytest.raises(ValueError, match="small: this format is for an mlp"):
        own("own.formats:NumpyFile").write(job, tmp_path / "model.npz")

    assert not list(tmp_path.iterdir())


def test_the_pipeline_runs_and_gives_the_same_bytes_again(tmp_path: Path) -> None:
    first, second = (run_all(short_spec(), tmp_path / name) for name in ("first", "second"))

    report, kd = first["report"].record, first["evaluate kd"].record
    assert isinstance(report, ReportRecord)
    assert [student.name for student in report.students] == ["kd", "own-loss"]
    assert report.students[0].control == report.students[1].control, "students of one model share their control"
    assert isinstance(kd, EvaluationRecord)
    assert (kd.samples, kd.multiply_adds) == (80, 16 * 8)
    for title in ("prepare own.data:source_lines", "train teacher", "soft labels", "distill kd", "distill own-loss"):
        assert first[title].manifest.files == second[title].manifest.files, title
