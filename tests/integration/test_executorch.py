"""Students as ExecuTorch files: answers, bytes, and what cannot be exported. `make test-executorch` runs them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from torch import nn

from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.exports import executorch, executorch_int8
from distill_queue.worker.exports.deployable import Deployable, RawInput, RawInputs
from distill_queue.worker.exports.executorch_file import File, _native
from distill_queue.worker.exports.facts import FileFacts
from distill_queue.worker.exports.gate import Comparison
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models.cnn import Cnn
from distill_queue.worker.models.mlp import Mlp
from distill_queue.worker.stages.runner import StageRunner

pytest.importorskip("executorch")
# A model's lowering takes seconds of processor time; it may share the machine.
pytestmark = pytest.mark.timeout(1_200)

DIGIT = RawInput("input", torch.uint8, (1, 28, 28), torch.full((1, 1, 1), 33.0), torch.full((1, 1, 1), 78.0))
PHOTO = RawInput("input", torch.uint8, (3, 32, 32), torch.full((3, 1, 1), 110.0), torch.full((3, 1, 1), 60.0))
ROW = RawInput("input", torch.float32, (6,), torch.arange(6.0), torch.arange(1.0, 7.0))
TEXT = (RawInput("ids", torch.int64, (12,)), RawInput("mask", torch.bool, (12,)))


class Bag(nn.Module):
    """A classifier of the mean of the tokens' embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 8), nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        kept = mask[..., None].float()
        return self.head((self.embedding(ids) * kept).sum(1) / kept.sum(1).clamp_min(1))


class Whimsical(nn.Module):
    """Its way depends on what it sees."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)[:, :10] if inputs.sum() > 0 else inputs.flatten(1)[:, 10:20]


#: By what they are: a model's maker, and its inputs.
STUDENTS: dict[str, tuple[Callable[[], nn.Module], tuple[RawInput, ...]]] = {
    "mlp": (lambda: Mlp(784, (32,), 10), (DIGIT,)),
    "cnn": (lambda: Cnn(1, 8, 2, 10), (DIGIT,)),
    "torchvision": (lambda: torchvision.models.squeezenet1_1(num_classes=10), (PHOTO,)),
    "table": (lambda: Mlp(6, (16,), 3), (ROW,)),
    "text": (Bag, TEXT),
}


def samples_of(inputs: tuple[RawInput, ...], number: int) -> RawInputs:
    """Some raw samples."""
    random = np.random.default_rng(0)
    return {each.name: random.integers(0, 50, (number, *each.shape)).astype(str(each.kind)[6:]) for each in inputs}


def job_of(kind: str) -> ExportJob:
    """A student with weights and statistics that are drawn, the same each time."""
    torch.manual_seed(0)
    make, inputs = STUDENTS[kind]
    model = make()
    for norm in (each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        norm.running_mean.normal_(0.0, 0.2)
        norm.running_var.uniform_(0.5, 2.0)
        norm.weight.data.uniform_(-1.5, 1.5)
        norm.bias.data.normal_()
    return job_with(model, inputs)


def job_with(model: nn.Module, inputs: tuple[RawInput, ...]) -> ExportJob:
    """The job of exporting a model."""

    def calibration() -> Iterator[RawInputs]:
        yield samples_of(inputs, 32)

    facts = FileFacts(("a", "ä"), "key of the model", "key of the data", inputs)
    return ExportJob("student", Deployable(model, inputs, named=len(inputs) > 1).eval(), facts, calibration)


@torch.no_grad()
def answers(job: ExportJob, path: Path) -> Comparison:
    """A file's answers beside the student's."""
    samples = samples_of(job.model.inputs, 40)
    own = job.model(*map(torch.from_numpy, samples.values())).numpy()
    return Comparison.of(File(path).logits(samples), own, own.argmax(1))


@pytest.mark.parametrize("kind", STUDENTS)
def test_a_file_in_floating_point_answers_as_its_student(kind: str, tmp_path: Path) -> None:
    job = job_of(kind)

    executorch.write(job, tmp_path / "model.pte")

    answers(job, tmp_path / "model.pte").require_same(kind)
    assert File(tmp_path / "model.pte").operators["XnnpackBackend"] >= 1


@pytest.mark.parametrize("kind", ["cnn", "text"])
def test_a_file_of_integers_answers_nearly_as_its_student(kind: str, tmp_path: Path) -> None:
    job = job_of(kind)

    executorch_int8.write(job, tmp_path / "model.pte")

    compared = answers(job, tmp_path / "model.pte")
    assert compared.difference < 0.05 * compared.logits_range
    assert compared.agreement > 0.9


def test_a_batch_norm_without_a_convolution_before_it_becomes_a_product_and_a_sum() -> None:
    norm = nn.BatchNorm2d(3)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    model = nn.Sequential(nn.MaxPool2d(2), norm).eval()
    samples = torch.randn(1, 3, 4, 4)
    traced = torch.export.export(model, (samples,)).module()

    executorch_int8.without_norms(traced)

    assert not any(node.target is torch.ops.aten.batch_norm.default for node in traced.graph.nodes)
    assert torch.allclose(traced(samples), model(samples), atol=1e-6)


def test_what_is_known_of_a_student_can_be_asked_of_its_file(tmp_path: Path) -> None:
    executorch.write(job_of("mlp"), tmp_path / "model.pte")

    program = _native()._load_program(str(tmp_path / "model.pte"))

    assert program.load_method("distill_queue_class_names")([]) == ['["a", "ä"]']
    assert program.load_method("distill_queue_model_key")([]) == ["key of the model"]


def test_two_processes_in_two_folders_write_the_same_bytes(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    code = (
        f"import sys; sys.path.insert(0, {str(root)!r}); from pathlib import Path; "
        "from tests.integration.test_executorch import executorch, executorch_int8, job_of; "
        "executorch.write(job_of('cnn'), Path('model.pte')); executorch_int8.write(job_of('cnn'), Path('int8.pte'))"
    )

    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / name, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr

    for name in ("model.pte", "int8.pte"):
        content = (tmp_path / "one" / name).read_bytes()
        assert content == (tmp_path / "two" / name).read_bytes()
        assert not any(place in content for place in (b".py", str(root).encode(), str(tmp_path).encode()))
        assert len(content) > 5_000


def test_a_student_whose_way_depends_on_its_samples_cannot_be_exported(tmp_path: Path) -> None:
    job = job_with(Whimsical(), (DIGIT,))

    with pytest.raises(StageFailed, match=r"student cannot be exported to ExecuTorch: .+ the same for every sample"):
        executorch.write(job, tmp_path / "model.pte")

    assert not (tmp_path / "model.pte").exists()


def test_a_pipeline_exports_its_students_and_scores_the_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    student = {
        "name": "small",
        "model": {"name": "resnet8"},
        "training": {"epochs": 1, "batch_size": 100, "learning_rate": 2e-3},
        "export": {"formats": ["executorch", "executorch-int8"], "tolerance": 5},
    }
    spec = {
        "name": "digits",
        "dataset": {"name": "mnist_5k", "labelled": 1_000},
        "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 1}},
        "students": [student],
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    plan = Plan.of(load_spec(tmp_path / "spec.yaml", Settings(cache=tmp_path / "cache")))
    said: list[str] = []
    runner = StageRunner(
        FolderStore(tmp_path / "store"), Runtime(torch.device("cpu")), lambda words, *_: said.append(words)
    )

    records = [runner.run(stage).record for stage in plan.stages]

    whole, integers = (each for each in records if isinstance(each, ExportRecord))
    assert (whole.file, integers.file) == ("model.pte", "model-int8.pte")
    assert whole.agreement == 1.0
    assert integers.agreement > 0.95
    assert whole.size_bytes > 2.5 * integers.size_bytes
    assert whole.runtime.startswith("executorch 1.")
    assert whole.operators["XnnpackBackend"] >= 1
    assert f"the file's answers: {whole.samples:,} of {whole.samples:,} samples" in said
    assert capfd.readouterr().err == ""
