"""Models that are trained side by side are as if each had been trained alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distill_queue.shared.errors import HandedBack, InvalidSpec, StageFailed
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import Split
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.models import Mlp
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal
from distill_queue.worker.training.stack import Stack

KD = {"temperature": 4.0, "alpha": 0.9}
NAMES = ("one", "two", "three")


def mlp() -> nn.Module:
    return Mlp(16, (8,), 3)


def deep() -> nn.Module:
    return Mlp(16, (24, 16), 3)


class Watching(nn.Module):
    """A linear model that keeps what it is shown in training."""

    def __init__(self, shown: list[torch.Tensor]) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self._shown = shown

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self._shown.append(inputs.detach().clone())
        return self.layer(inputs.flatten(1))


@pytest.fixture
def data() -> Split:
    """A few random images of three classes, one in three without a label; the last batch is a short one."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randint(0, 256, (60, 1, 4, 4), dtype=torch.uint8, generator=generator)
    targets = torch.randint(0, 3, (60,), generator=generator)
    targets[::3] = -1
    return Split(inputs, targets, torch.tensor([128.0]), torch.tensor([70.0]), labelled=40)


@pytest.fixture
def teacher_logits() -> torch.Tensor:
    """Logits of two views."""
    return torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(1)) * 3


def member(build: Callable[[], nn.Module], seed: int, distillation: dict[str, Any] | None, **training: Any) -> Member:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build()
    spec = TrainingSpec.model_validate({"epochs": 3, "batch_size": 16, "seed": seed} | training)
    goal = Goal(DistillationSpec.model_validate(distillation) if distillation else None, spec.label_smoothing)
    return Member(model, spec, goal)


def sweep(build: Callable[[], nn.Module] = mlp, **training: Any) -> list[Member]:
    """Students, a control, seeds, losses, temperatures and learning rates of one shape."""
    return [
        member(build, 0, KD, **training),
        member(build, 0, None, **training),
        member(build, 1, {"temperature": 1.0, "alpha": 0.3}, **training | {"learning_rate": 3e-3}),
        member(build, 2, {"loss": "dkd"}, **training),
        member(build, 2, {"loss": "dist", "standardise": True}, **training | {"label_smoothing": 0.1}),
        member(build, 3, {"loss": "mse", "alpha": 1.0}, **training),
        member(build, 4, {"temperature": {"from": 8.0, "to": 1.0}, "alpha": {"from": 0.9, "to": 0.3}}, **training),
    ]


def train(
    members: Sequence[Member], data: Split, teacher_logits: torch.Tensor, folder: Path, stop_at: int = 0, **views: Any
) -> list[Trained | StageFailed]:
    steps = 0

    def report(progress: str, samples: int = 0, share: float | None = None) -> None:
        nonlocal steps
        steps += "step" in progress
        if steps == stop_at:
            raise HandedBack(progress)

    taught = TeacherLogits(Encoding(dtype="float32"), teacher_logits.shape[-1], (teacher_logits,))
    batches = Batches(data, AugmentationSpec.model_validate(views), 2, torch.float32, taught)
    held_out = Split(data.inputs[1::3], data.targets[1::3], data.mean, data.std, labelled=20)
    return fit(members, batches, held_out, torch.float32, report, Checkpoints(folder, 1e9))


def weights(members: Sequence[Member]) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor.clone() for name, tensor in each.model.state_dict().items()} for each in members]


@pytest.mark.parametrize("build", [mlp, deep])
@pytest.mark.parametrize(
    "training",
    [
        {},
        {"optimizer": "sgd", "schedule": "cosine", "warmup": 0.2, "weight_decay": 1e-2},
        {"optimizer": "adamw", "schedule": "constant", "weight_decay": 0.1, "keep": "best"},
    ],
)
def test_a_sweep_trained_together_is_as_if_each_had_been_trained_alone(
    build: Callable[[], nn.Module],
    training: dict[str, Any],
    data: Split,
    teacher_logits: torch.Tensor,
    tmp_path: Path,
) -> None:
    together, alone = sweep(build, **training), sweep(build, **training)

    stacked = train(together, data, teacher_logits, tmp_path / "together", shift=1, flip=True)
    single = [
        train([each], data, teacher_logits, tmp_path / str(index), shift=1, flip=True)[0]
        for index, each in enumerate(alone)
    ]

    for one, other in zip(weights(together), weights(alone), strict=True):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-5)
    for each, other in zip(stacked, single, strict=True):
        assert isinstance(each, Trained)
        assert isinstance(other, Trained)
        record, expected = each.record, other.record
        assert each.history.losses == pytest.approx(other.history.losses, rel=1e-4)
        assert record.loss == each.history.losses[record.kept_epoch - 1]
        assert (record.kept_epoch, record.held_out_accuracy) == (expected.kept_epoch, expected.held_out_accuracy)
        assert (record.together, expected.together) == (7, 1)


def test_a_sweep_that_was_left_goes_on_to_the_same_bits(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    undisturbed, left = sweep(), sweep()
    expected = train(undisturbed, data, teacher_logits, tmp_path / "undisturbed")

    for stop_at in (1, 3, 5):
        with pytest.raises(HandedBack):
            train(sweep(), data, teacher_logits, tmp_path / "left", stop_at)
    trained = train(left, data, teacher_logits, tmp_path / "left")

    for one, other in zip(weights(undisturbed), weights(left), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    assert [each.history for each in trained] == [each.history for each in expected]  # type: ignore[union-attr]


def test_a_member_that_diverges_fails_alone(data: Split, teacher_logits: torch.Tensor, tmp_path: Path) -> None:
    training = {"optimizer": "sgd", "schedule": "constant"}
    members = [
        member(mlp, 0, KD, **training),
        member(mlp, 0, {"loss": "mse", "alpha": 1.0}, **training, learning_rate=1e3),
    ]
    alone = member(mlp, 0, KD, **training)

    good, bad = train(members, data, teacher_logits, tmp_path / "together")
    train([alone], data, teacher_logits, tmp_path / "alone")

    assert isinstance(good, Trained)
    assert isinstance(bad, StageFailed)
    assert "the loss is not finite in step" in str(bad)
    torch.testing.assert_close(weights(members)[0], weights([alone])[0], rtol=1e-4, atol=1e-5)


def test_without_a_teacher_a_model_sees_labelled_samples_only_and_as_many_steps(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    shown: list[torch.Tensor] = []
    (trained,) = train([member(partial(Watching, shown), 0, None, epochs=1)], data, teacher_logits, tmp_path)

    assert isinstance(trained, Trained)
    rows = torch.cat(shown)
    labelled = data.normalised(data.targets.ge(0).nonzero().flatten())
    assert len(rows) == 60
    assert all((row == labelled).flatten(1).all(1).any() for row in rows)
    assert len({row.numpy().tobytes() for row in rows}) == 40, "every labelled sample is shown"


def labelled_only(data: Split) -> tuple[Split, torch.Tensor]:
    rows = data.targets.ge(0)
    return Split(data.read(rows.nonzero().flatten()), data.targets[rows], data.mean, data.std, labelled=40), rows


def test_members_that_learn_from_other_classes_are_as_if_trained_alone(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    data, rows = labelled_only(data)
    logits = teacher_logits[:, rows]

    def some() -> list[Member]:
        classes: list[tuple[int, ...] | None] = [None, (0, 1), (2,), None]
        return [replace(each, classes=which) for each, which in zip(sweep()[:4], classes, strict=True)]

    train(together := some(), data, logits, tmp_path / "together")
    for place, alone in enumerate(apart := some()):
        train([alone], data, logits, tmp_path / str(place))

    torch.testing.assert_close(weights(together), weights(apart), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "choices", [{"class_weights": "balanced", "keep": "best", "best_by": "macro_f1"}, {"sampling": "balanced"}]
)
def test_members_that_mind_classes_are_as_if_trained_alone(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path, choices: dict[str, Any]
) -> None:
    data, rows = labelled_only(data)
    logits = teacher_logits[:, rows]

    def some() -> list[Member]:
        classes: list[tuple[int, ...] | None] = [None, (0, 1), None]
        members = sweep(**choices)[:3]
        return [replace(each, classes=which, class_names=NAMES) for each, which in zip(members, classes, strict=True)]

    train(together := some(), data, logits, tmp_path / "together")
    for place, alone in enumerate(apart := some()):
        train([alone], data, logits, tmp_path / str(place))

    torch.testing.assert_close(weights(together), weights(apart), rtol=1e-4, atol=1e-5)


def test_a_student_that_draws_by_class_sees_each_equally_often(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    data, rows = labelled_only(data)
    data.targets[data.targets == 2] = 0
    data.targets[0] = 2
    shown: list[torch.Tensor] = []
    student = member(partial(Watching, shown), 0, KD, epochs=1, sampling="balanced")
    train([student], data, teacher_logits[:, rows], tmp_path)

    label = {
        row.numpy().tobytes(): int(number)
        for row, number in zip(data.normalised(slice(None)), data.targets, strict=True)
    }
    seen = [label[row.numpy().tobytes()] for row in torch.cat(shown)]
    assert sorted(map(seen.count, range(3))) == [13, 13, 14]


def test_a_student_of_some_classes_never_sees_the_others(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    data, rows = labelled_only(data)
    shown: list[torch.Tensor] = []
    student = replace(member(partial(Watching, shown), 0, KD, epochs=1), classes=(0, 2))
    train([student], data, teacher_logits[:, rows], tmp_path)

    seen = {row.numpy().tobytes() for row in torch.cat(shown)}
    allowed = data.normalised(data.targets.ne(1).nonzero().flatten())
    assert len(torch.cat(shown)) == 40, "an epoch is as long as with all classes"
    assert seen == {row.numpy().tobytes() for row in allowed}


@pytest.mark.parametrize(
    ("unlabelled", "message"), [(True, "some training samples have no label"), (False, "no training sample is of its")]
)
def test_classes_need_labels_and_samples(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path, unlabelled: bool, message: str
) -> None:
    if not unlabelled:
        data, rows = labelled_only(data)
        teacher_logits = teacher_logits[:, rows]
        data.targets[data.targets == 1] = 0

    with pytest.raises(InvalidSpec, match=message):
        train([replace(member(mlp, 0, KD), classes=(1,))], data, teacher_logits, tmp_path)


def test_training_ends_when_the_held_out_accuracy_does_not_rise_any_more(
    data: Split, teacher_logits: torch.Tensor, tmp_path: Path
) -> None:
    impatient = member(mlp, 0, None, epochs=500, patience=3, keep="best", learning_rate=1e-2)

    (trained,) = train([impatient], data, teacher_logits, tmp_path)

    assert isinstance(trained, Trained)
    assert trained.record.epochs < 500
    assert trained.record.epochs == trained.record.kept_epoch + 3 == len(trained.history.losses)


def test_weights_decay_in_matrices_and_not_in_biases(data: Split, teacher_logits: torch.Tensor, tmp_path: Path) -> None:
    training = {"optimizer": "adamw", "schedule": "constant", "epochs": 60}
    free, decayed = (member(mlp, 0, KD, **training, weight_decay=decay) for decay in (0.0, 10.0))

    train([free], data, teacher_logits, tmp_path / "free")
    train([decayed], data, teacher_logits, tmp_path / "decayed")

    (before, after) = (weights([each])[0] for each in (free, decayed))
    assert after["layers.0.weight"].norm() < 0.2 * before["layers.0.weight"].norm()
    assert after["layers.0.bias"].norm() > 0.5 * before["layers.0.bias"].norm()


def test_a_members_model_is_a_view_of_the_stack() -> None:
    models = [mlp(), mlp()]
    alone = [model(torch.ones(2, 1, 4, 4)) for model in models]

    stack = Stack(models)

    torch.testing.assert_close(stack(torch.ones(2, 2, 1, 4, 4)), torch.stack(alone))
    stack.parameters["layers.0.weight"].data.zero_()
    assert all(not model.state_dict()["layers.0.weight"].any() for model in models)


def test_only_mlps_are_stacked() -> None:
    with pytest.raises(TypeError, match="only MLPs"):
        Stack([nn.Linear(2, 2), nn.Linear(2, 2)])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_stacks_gradients_are_those_of_its_members(dtype: torch.dtype) -> None:
    models, alone = [deep() for _ in range(3)], [deep() for _ in range(3)]
    for model, copy in zip(models, alone, strict=True):
        copy.load_state_dict(model.state_dict())
    inputs, wanted = torch.randn(3, 20, 1, 4, 4), torch.randn(3, 20, 3)
    stack = Stack(models)
    part = stack.slice(1, 3)

    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        together = stack(inputs)
        single = torch.stack([model(each) for model, each in zip(alone, inputs, strict=True)])
    stack.backward((together.float() * wanted).sum(), [part])
    (single.float() * wanted).sum().backward()

    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    assert together.dtype == single.dtype == dtype
    torch.testing.assert_close(together, single, rtol=tolerance, atol=tolerance)
    for leaf, *expected in zip(part[2], *(model.parameters() for model in alone), strict=True):
        gradients = [parameter.grad for parameter in expected[1:]]
        assert leaf.grad is not None
        assert leaf.grad.dtype == torch.float32
        assert leaf.grad.is_contiguous()
        torch.testing.assert_close(leaf.grad, torch.stack(gradients), rtol=tolerance, atol=10 * tolerance)  # type: ignore[arg-type]
