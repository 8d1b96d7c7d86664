"""What is found out on a few samples before a training begins: wrong bfloat16, and batches of one sample."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.shared.errors import HandedBack, InvalidSpec, StageFailed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.data.batches import batch_sizes
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.models import Cnn, Mlp, Resnet
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.training.marks import difference, state_of
from distill_queue.worker.training.probe import Probe

CPU = Runtime(torch.device("cpu"), plugins=("mine",))
NATIVE = CPU.dtype("auto") == torch.bfloat16
GENERATOR = np.random.default_rng(0)
#: Of 33 samples, which leave one behind two batches of 16.
INPUTS = GENERATOR.normal(size=(33, 1, 4, 4)).astype(np.float32)
TARGETS = np.arange(33) % 3


class Masked(nn.Module):
    """A linear model with a mask that is infinite on purpose, in a buffer and, if that is asked for, in a logit."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.body, self.logits = Wrong("unwritten" if how == "unwritten" else ""), how == "logits"
        self.register_buffer("mask", torch.tensor([0.0, 0.0, -torch.inf]))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.body(inputs)
        return logits + self.mask if self.logits else logits * self.mask.exp() + logits


class Greedy(nn.Module):
    """A linear model that takes more memory than there is for some numbers of samples in training mode."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.head, self.rows = nn.Linear(16, 3), rows

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and len(inputs) == self.rows:
            torch.empty(2**50)
        return self.head(inputs.flatten(1))


class _Wrong(torch.autograd.Function):
    """Nothing, with a gradient that is wrong where the input is not in float32."""

    @staticmethod
    def forward(ctx: Any, inputs: torch.Tensor, how: str) -> torch.Tensor:
        ctx.how = how
        return inputs.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        if gradient.dtype == torch.float32:
            return gradient, None
        if ctx.how == "unwritten":
            wrong = torch.empty_like(gradient)
            wrong[1:] = gradient[1:]
            return wrong, None
        if ctx.how == "large":
            return gradient * 1e6, None
        return -gradient if ctx.how == "mirrored" else gradient * 2 ** int(torch.randint(4, ())), None


class Wrong(nn.Module):
    """A linear model whose gradients are wrong in rounded types: `unwritten`, `mirrored`, `large` or `no kernel`."""

    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.first, self.second, self.how = nn.Linear(16, 8), nn.Linear(8, 3), how

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.how == "no kernel" and inputs.dtype == torch.float16:
            raise RuntimeError("no kernel for 'Half'")
        features = self.first(inputs.flatten(1))
        return self.second(_Wrong.apply(features, self.how) if self.how else features)


def data(train: int = 33) -> dict[str, Any]:
    return {
        "train": (INPUTS[:train], TARGETS[:train]),
        "test": (INPUTS[:9], TARGETS[:9]),
        "class_names": ["a", "b", "c"],
    }


@pytest.fixture
def mine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package with data of the user's own, and a model whose gradients can be wrong."""
    module = ModuleType("mine")
    module.data = data  # type: ignore[attr-defined]
    module.model = lambda how, **_: Wrong(how)  # type: ignore[attr-defined]
    module.masked = lambda how="", **_: Masked(how)  # type: ignore[attr-defined]
    module.greedy = lambda rows, **_: Greedy(rows)  # type: ignore[attr-defined]
    for part in (module.data, module.model, module.masked, module.greedy):
        monkeypatch.setattr(part, "__module__", "mine")
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def train(folder: Path, model: dict[str, Any], report: Any = lambda *_: None, data: Any = None, **training: Any) -> Any:
    """The artifact of a teacher that is trained on data of the user's own."""
    spec = PipelineSpec.model_validate(
        {
            "name": "probed",
            "dataset": {"name": "mine:data", "options": data or {}},
            "teacher": {"model": model, "training": {"epochs": 2, "batch_size": 16} | training},
            "students": [{"name": "s", "model": {"name": "mlp", "hidden": [4]}}],
        }
    )
    prepare, teacher, *_ = Plan.of(spec).trunk
    store = FolderStore(folder)
    StageRunner(store, CPU, lambda *_: None).run(prepare)
    return StageRunner(store, CPU, report, checkpoint_seconds=1e9).run(teacher)


def record_of(artifact: Artifact) -> TrainingRecord:
    assert isinstance(artifact.record, TrainingRecord)
    return artifact.record


@pytest.mark.parametrize(
    "build",
    [
        lambda: Mlp(64, (64, 32), 10),
        lambda: Mlp(64, (32,) * 8, 10),
        lambda: Cnn(1, 4, 2, 10),
        lambda: Cnn(1, 16, 5, 10),
        lambda: Resnet(1, 20, 10),
        lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10)),
        lambda: nn.Sequential(nn.Flatten(1, 2), nn.LSTM(8, 8, batch_first=True), Last(), nn.Linear(8, 10)),
    ],
)
def test_bfloat16_is_right_for_healthy_models(build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)

    probe = Probe([model], torch.randn(16, 1, 8, 8), seed=0)

    assert probe.fault_of(torch.bfloat16) is None
    assert probe.irreproducible() == ""


class Last(nn.Module):
    """What a recurrent layer returns of the last step."""

    def forward(self, returned: tuple[torch.Tensor, Any]) -> torch.Tensor:
        return returned[0][:, -1]


def test_a_stack_is_probed_as_one_and_its_members_stay_as_they_are() -> None:
    torch.manual_seed(0)
    members = [Mlp(16, (8,), 3) for _ in range(3)]

    probe = Probe(members, torch.randn(16, 1, 4, 4), seed=0)
    before = [parameter.clone() for member in members for parameter in member.parameters()]
    fault = probe.fault_of(torch.bfloat16)

    assert fault is None
    after = [parameter for member in members for parameter in member.parameters()]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("how", "what", "certain"),
    [
        ("unwritten", "the gradient of first.weight is not finite", True),
        ("mirrored", "the gradients are far from those in float32|is far from that in float32", False),
    ],
)
def test_a_wrong_gradient_in_bfloat16_is_found(how: str, what: str, certain: bool) -> None:
    for _ in range(20):  # Every time.
        torch.manual_seed(0)
        fault = Probe([Wrong(how)], torch.randn(16, 1, 4, 4), seed=0).fault_of(torch.bfloat16)

        assert fault is not None
        assert fault.certain == certain
        assert re.search(what, fault.what)


@pytest.mark.skipif(not torch.cpu._is_amx_tile_supported(), reason="this processor has no AMX, where the fault is")
def test_torchs_wrong_gradient_of_a_strided_convolution_is_found() -> None:
    torch.manual_seed(0)
    strided = {"kernel_size": 3, "stride": 2, "padding": 1}
    model = nn.Sequential(nn.Conv2d(1, 16, **strided), nn.Conv2d(16, 32, **strided), nn.Flatten(), nn.Linear(32, 3))

    faults = [Probe([model], torch.randn(4, 1, 2, 2), seed=0).fault_of(torch.bfloat16) for _ in range(20)]

    assert all(fault is not None and fault.certain for fault in faults)


@pytest.mark.skipif(not NATIVE, reason="auto is float32 on this processor anyway")
@pytest.mark.parametrize("how", ["unwritten", "mirrored"])
def test_auto_is_float32_where_bfloat16_is_wrong(
    tmp_path: Path, mine: ModuleType, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = {"name": "mine:model", "options": {"how": how}}

    record = record_of(train(tmp_path / "auto", model))
    float32 = train(tmp_path / "float32", model, precision="float32")

    assert (record.precision, record_of(float32).precision) == ("float32", "float32")
    assert record.fallback is not None
    assert record.summary.endswith(", in float32")
    assert f"mine:model: trained in float32: in bfloat16 {record.fallback} on this device" in caplog.text
    assert record_of(float32).fallback is None


@pytest.mark.skipif(not NATIVE, reason="auto is float32 on this processor anyway")
def test_auto_stays_bfloat16_where_it_is_right(tmp_path: Path, mine: ModuleType) -> None:
    record = record_of(train(tmp_path, {"name": "cnn", "width": 4, "depth": 1}))

    assert (record.precision, record.fallback) == ("bfloat16", None)


def test_bfloat16_that_is_wrong_for_certain_is_refused_where_it_is_asked_for(tmp_path: Path, mine: ModuleType) -> None:
    model = {"name": "mine:model", "options": {"how": "unwritten"}}

    with pytest.raises(StageFailed, match=r"training.precision: mine:model in bfloat16: .* say auto or float32"):
        train(tmp_path, model, precision="bfloat16")


def test_bfloat16_that_is_far_from_float32_is_taken_where_it_is_asked_for(
    tmp_path: Path, mine: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    record = record_of(train(tmp_path, {"name": "mine:model", "options": {"how": "mirrored"}}, precision="bfloat16"))

    assert (record.precision, record.fallback) == ("bfloat16", None)
    assert "mine:model: trained in bfloat16 as it was asked for: the gradient" in caplog.text


def test_float16_is_taken_where_it_is_asked_for_and_right(tmp_path: Path, mine: ModuleType) -> None:
    record = record_of(train(tmp_path, {"name": "mlp", "hidden": [4]}, precision="float16"))

    assert (record.precision, record.fallback) == ("float16", None)


def test_float16_of_which_the_device_has_no_kernel_is_refused_in_one_line(tmp_path: Path, mine: ModuleType) -> None:
    model = {"name": "mine:model", "options": {"how": "no kernel"}}

    with pytest.raises(StageFailed) as refused:
        train(tmp_path, model, precision="float16")

    said = "training.precision: mine:model in float16: no kernel for 'Half' on this device: say auto or float32"
    assert str(refused.value) == said


def test_gradients_that_overflow_in_float16_are_no_fault_for_certain_as_the_loss_scale_falls() -> None:
    fault = Probe([Wrong("large")], torch.randn(16, 1, 4, 4), seed=0).fault_of(torch.float16)

    assert fault is not None
    assert (fault.what, fault.certain) == ("the gradient of first.weight is not finite", False)


@pytest.mark.parametrize(
    ("samples", "batch_size", "joined", "sizes"),
    [
        (33, 16, False, [16, 16, 1]),
        (33, 16, True, [16, 17]),
        (17, 16, True, [17]),
        (34, 16, True, [16, 16, 2]),
        (32, 16, True, [16, 16]),
        (5, 16, True, [5]),
        (1, 16, True, [1]),
        (3, 1, True, [1, 1, 1]),
    ],
)
def test_a_last_batch_of_one_sample_can_be_joined(
    samples: int, batch_size: int, joined: bool, sizes: list[int]
) -> None:
    assert batch_sizes(samples, batch_size, joined=joined) == sizes


#: Two blocks leave one pixel of 4 x 4: batch norm has nothing to average over in a batch of one sample.
DEEP = {"name": "cnn", "width": 4, "depth": 2}


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_a_model_that_cannot_be_trained_on_one_sample_sees_it_in_the_batch_before(
    tmp_path: Path, mine: ModuleType, precision: str
) -> None:
    told: list[tuple[str, int, float | None]] = []

    record = record_of(train(tmp_path, DEEP, lambda *said: told.append(said), precision=precision))

    assert record.steps == 4
    assert [samples for words, samples, _ in told if "step" in words] == [16, 17, 16, 17]
    assert [words.split(" · ")[1] for words, *_ in told if "step" in words] == ["step 1/2", "step 2/2"] * 2
    assert told[-1][2] == 1.0


@pytest.mark.parametrize("model", [{"name": "mlp", "hidden": [4]}, DEEP | {"depth": 1}])
def test_a_model_that_can_be_trained_on_one_sample_sees_it_alone(
    tmp_path: Path, mine: ModuleType, model: dict[str, Any]
) -> None:
    assert record_of(train(tmp_path, model)).steps == 6


@pytest.mark.parametrize(("batch_size", "steps"), [(16, 6), (1, 66)])
def test_a_model_with_a_mask_can_be_trained_on_one_sample(
    tmp_path: Path, mine: ModuleType, batch_size: int, steps: int
) -> None:
    artifact = train(tmp_path, {"name": "mine:masked"}, batch_size=batch_size, precision="float32")

    assert record_of(artifact).steps == steps


def test_a_mask_among_the_logits_is_no_reason_against_one_sample_or_bfloat16() -> None:
    probe = Probe([Masked("logits")], torch.randn(16, 1, 4, 4), seed=0)

    assert probe.refusal_of_one_sample() is None
    assert probe.fault_of(torch.bfloat16) is None


def test_a_mask_hides_no_wrong_gradient_in_bfloat16() -> None:
    fault = Probe([Masked("unwritten")], torch.randn(16, 1, 4, 4), seed=0).fault_of(torch.bfloat16)

    assert fault is not None
    assert fault.certain
    assert "the gradient of body.first." in fault.what


def test_models_are_compared_without_copies_of_their_weights() -> None:
    model, other = Mlp(16, (8,), 3), Mlp(16, (8,), 3)
    other.load_state_dict(model.state_dict())

    marks = state_of(model)

    assert all(isinstance(mark.values, str) for mark in marks.values())
    assert difference(marks, state_of(other)) == ""
    other.head.bias.data[0] += 1.0
    assert difference(marks, state_of(other)) == "head.bias"


@pytest.mark.parametrize("rows", [1, 2, 16])
def test_memory_that_runs_out_before_a_training_is_no_mistake_of_the_users(
    tmp_path: Path, mine: ModuleType, rows: int
) -> None:
    with pytest.raises(StageFailed, match=r"^memory ran out \(.*can't allocate memory.*\): ") as failed:
        train(tmp_path, {"name": "mine:greedy", "options": {"rows": rows}})

    assert rows == 2 or "a batch of 16" in str(failed.value)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_training_with_a_joined_batch_goes_on_to_the_same_bytes(tmp_path: Path, mine: ModuleType, steps: int) -> None:
    whole = train(tmp_path / "whole", DEEP)
    left = 0

    def leave(words: str, *_: Any) -> None:
        nonlocal left
        left += "step" in words
        if "step" in words and left == steps:
            raise HandedBack(words)

    with pytest.raises(HandedBack):
        train(tmp_path / "left", DEEP, leave)
    gone_on = train(tmp_path / "left", DEEP, leave)

    assert gone_on.path("model.safetensors").read_bytes() == whole.path("model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1}, "training.batch_size: cnn cannot be trained on a batch_size of 1: Expected more than 1"),
        ({"data": {"train": 1}}, "training.batch_size: cnn cannot be trained on the only training sample"),
    ],
)
def test_a_model_that_cannot_be_trained_on_single_samples_is_refused_before_it_is(
    tmp_path: Path, mine: ModuleType, changes: dict[str, Any], message: str
) -> None:
    told: list[str] = []

    with pytest.raises(InvalidSpec, match=message):
        train(tmp_path, DEEP, lambda words, *_: told.append(words), **changes)

    assert told == []
