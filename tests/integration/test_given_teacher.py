"""A teacher whose weights were given: its inputs are normalised as in its training, or the user is warned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import weights_ref
from distill_queue.shared.results.records import DatasetRecord, SoftLabelsRecord, WeightsRecord
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.spec.given_files import weights_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.spec.sources.normalise import MeanAndDeviation, NormaliseInputs
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.worker import models
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.normalisation import IMAGENET_MEAN, IMAGENET_STD, prepared
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.split import Split
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.stages.teacher_checks import check

CPU = Runtime(torch.device("cpu"))
MODEL = {"name": "mlp", "hidden": [64]}
MakeSpec = Callable[..., PipelineSpec]
Change = Callable[[torch.Tensor], torch.Tensor]
#: How pixels of the digits, from 0 to 16, may have been changed for a teacher.
WAYS: dict[str, Change] = {
    "data": lambda x: (x - 4.88) / 6.02,
    "unit": lambda x: x / 255,
    "none": lambda x: x,
    "x / 16": lambda x: x / 16,
}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "store")


@pytest.fixture(scope="module")
def digits() -> Arrays:
    """Eight by eight pixels."""
    return load(NamedDatasetSpec(name="digits"), Reading(CPU))


@pytest.fixture(scope="module")
def given(digits: Arrays, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The weights of a teacher that was trained elsewhere on changed pixels, by the change's name."""
    folder = tmp_path_factory.mktemp("given")
    inputs, targets = torch.from_numpy(digits.train_inputs).float(), torch.from_numpy(digits.train_targets)

    def train(way: str) -> Path:
        path = folder / f"{way.replace('/', 'by')}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            model = models.Mlp(64, (64,), 10)
            optimizer = torch.optim.Adam(model.parameters(), 1e-2)
            for _ in range(150):
                optimizer.zero_grad()
                functional.cross_entropy(model(WAYS[way](inputs)), targets).backward()
                optimizer.step()
            models.save(model, path)
        return path

    return train


def store_given(spec: PipelineSpec, store: FolderStore) -> None:
    """Put given weights into the store, as a client does."""
    for teacher in spec.all_teachers:
        if teacher.checkpoint is None:
            continue
        weights = weights_of(teacher, spec.dataset)
        if (ref := weights_ref(weights)) not in store:
            with store.draft(ref) as draft:
                (draft / "model.safetensors").write_bytes(b"".join(weights.pieces()))
                here = Provenance(host="", device="", versions={})
                store.commit(ref, draft, stage=None, record=None, provenance=here, seconds=0.0)


def run(spec: PipelineSpec, store: FolderStore, until: str = "report") -> dict[str, Artifact]:
    """Do a pipeline's stages up to a kind; each stage's artifact by its title, without a given file's name."""
    store_given(spec, store)
    done: dict[str, Artifact] = {}
    for stage in Plan.of(spec).stages:
        done[stage.title.partition(" from ")[0]] = StageRunner(store, CPU, lambda *_: None).run(stage)
        if stage.kind == until:
            break
    return done


def warned(record: Record) -> dict[str, str]:
    assert isinstance(record, WeightsRecord)
    return {warning.kind: warning.text for warning in record.warnings}


def teacher(weights: Path, normalise: str = "data") -> dict[str, Any]:
    return {"model": MODEL, "checkpoint": str(weights), "normalise": normalise}


@pytest.mark.parametrize(
    ("trained", "said", "advice"),
    [
        ("unit", "data", "as x / 255: say 'normalise: unit' beside its checkpoint"),
        ("none", "data", "as they are stored: say 'normalise: none' beside its checkpoint"),
        (
            "x / 16",
            "data",
            "as x / 16: say 'normalise: {mean: [0], std: [0.0627451]}' beside its checkpoint",
        ),
        ("data", "unit", "as they are normalised here (mean 0, deviation 1 a channel): leave out 'normalise'"),
    ],
)
def test_a_teacher_that_wants_other_inputs_is_told_with_figures_and_what_to_say(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], trained: str, said: str, advice: str
) -> None:
    done = run(make_spec(teacher=teacher(given(trained), said)), store, "load_teacher")

    found = warned(done["load teacher"].record)

    assert list(found) == ["normalisation"]
    assert found["normalisation"].startswith("of 1,000 labelled training samples the teacher is right on ")
    assert found["normalisation"].count("%") == 2
    assert found["normalisation"].endswith(advice)


@pytest.mark.parametrize("way", ["data", "unit", "none"])
def test_of_a_teacher_that_sees_what_it_was_trained_on_nothing_is_told(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], way: str
) -> None:
    done = run(make_spec(teacher=teacher(given(way), way)), store, "load_teacher")

    assert warned(done["load teacher"].record) == {}
    assert "warnings" not in done["load teacher"].record.model_dump()
    assert done["load teacher"].path("model.safetensors").read_bytes() == given(way).read_bytes()


def test_soft_labels_scores_and_agreement_are_of_the_inputs_that_a_teacher_was_trained_on(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], digits: Arrays
) -> None:
    spec = make_spec(teacher=teacher(given("unit"), "unit"))
    model = models.load(models.Mlp(64, (64,), 10), given("unit"))
    right = [
        (model(torch.from_numpy(inputs).float() / 255).argmax(1).numpy() == targets).mean()
        for inputs, targets in (
            (digits.train_inputs, digits.train_targets),
            (digits.test_inputs, digits.test_targets),
        )
    ]

    done = run(spec, store)

    labels = done["soft labels"].record
    assert isinstance(labels, SoftLabelsRecord)
    assert labels.accuracy == pytest.approx(right[0], abs=2e-3)
    assert done["evaluate teacher"].record.accuracy == pytest.approx(right[1], abs=4e-3)  # type: ignore[union-attr]
    assert done["evaluate teacher"].record.agreement == 1.0  # type: ignore[union-attr]


def test_a_student_of_a_teacher_that_sees_the_right_inputs_learns_more_than_of_one_that_does_not(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path]
) -> None:
    student = {
        "name": "small",
        "model": {"name": "mlp", "hidden": [32]},
        "distillation": {"alpha": 1.0},
        "training": {"epochs": 15, "learning_rate": 1e-2},
    }
    gains = []
    for normalise in ("data", "unit"):
        done = run(make_spec(teacher=teacher(given("unit"), normalise), students=[student]), store)
        gains.append(done["report"].record.students[0].gain.mean)  # type: ignore[union-attr]

    assert gains[0] < -0.05, "the control knows the labels; the teacher sees what it never saw"
    assert gains[1] > -0.025


def test_teachers_side_by_side_each_see_their_own_inputs(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], digits: Arrays
) -> None:
    teachers = [teacher(given("unit"), "unit"), teacher(given("data"))]
    spec = make_spec(teacher=None, teachers=teachers, average="logits")
    inputs = torch.from_numpy(digits.test_inputs).float()
    logits = [
        models.load(models.Mlp(64, (64,), 10), given(way))(WAYS[way](inputs)).argmax(1) for way in ("unit", "data")
    ]
    right = [(each.numpy() == digits.test_targets).mean() for each in logits]

    done = run(spec, store)

    report = done["report"].record
    assert [each.accuracy for each in report.teachers] == pytest.approx(right, abs=4e-3)  # type: ignore[union-attr]
    assert report.teacher.accuracy > min(right) - 0.01  # type: ignore[union-attr]


def test_a_teacher_that_knows_nothing_of_the_data_is_told_with_all_that_was_tried(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], tmp_path: Path
) -> None:
    model = models.load(models.Mlp(64, (64,), 10), given("data"))
    model.head.weight.data = model.head.weight.data.roll(1, 0)
    model.head.bias.data = model.head.bias.data.roll(1, 0)
    models.save(model, tmp_path / "rolled.safetensors")

    done = run(make_spec(teacher=teacher(tmp_path / "rolled.safetensors")), store, "load_teacher")

    found = warned(done["load teacher"].record)
    assert list(found) == ["teacher_at_chance"]
    assert "as x / 255" in found["teacher_at_chance"]
    assert "no more than by chance" in found["teacher_at_chance"]


class Right(torch.nn.Module):
    """Says the class that a sample's first value is, if that is below a bound."""

    def __init__(self, classes: int, bound: float) -> None:
        super().__init__()
        self.classes, self.bound = classes, bound

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        first = inputs.flatten(1)[:, 0].round().long()
        chosen = torch.where(first < self.bound, first, 0).clamp(0, self.classes - 1)
        return functional.one_hot(chosen, self.classes).float()


def told(folder: Path, targets: list[int], model: torch.nn.Module, inputs: np.ndarray[Any, Any]) -> list[str]:
    folder.mkdir()
    names = tuple(map(str, range(max(targets) + 1)))
    labels = np.array(targets)
    record = Arrays(inputs, labels, inputs[:2], labels[:2], names).save(folder)
    train = Split.open(folder, "train", record, CPU.device, streamed=True)
    return [warning.kind for warning in check(model, "data", record, train, 16, lambda *_: None)]


def test_few_or_unbalanced_samples_are_no_proof_of_chance(tmp_path: Path) -> None:
    few, unbalanced = [0, 1] * 10, [0] * 180 + [1] * 20
    tokens = [np.array(targets, dtype=np.int64)[:, None] for targets in (few, unbalanced)]
    wrong = np.zeros((20, 1), dtype=np.int64)

    # No more than one class is ever said; of 20 samples nothing is concluded.
    assert told(tmp_path / "a", few, Right(2, 2), wrong) == []
    # Right more often than by chance, on 95 %, where the frequent class is 90 %.
    half = tokens[1].copy()
    half[-10:] = 0
    assert told(tmp_path / "b", unbalanced, Right(2, 2), half) == []
    assert told(tmp_path / "c", unbalanced, Right(2, 0), tokens[1]) == ["teacher_at_chance"]


def test_other_inputs_that_are_behind_are_tried_on_few_samples_alone(
    digits: Arrays, given: Callable[[str], Path], tmp_path: Path
) -> None:
    targets = digits.train_targets.copy()
    targets[::5] = (targets[::5] + 1) % 10  # The teacher is right on 80 %.
    record = replace(digits, train_targets=targets).save(tmp_path)
    train = Split.open(tmp_path, "train", record, CPU.device, streamed=True)
    model, seen = models.load(models.Mlp(64, (64,), 10), given("data")), list[int]()
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))

    warnings = list(check(model, "data", record, train, 250, lambda *_: None))

    assert warnings == []
    assert seen == [250] * 4 + [200] * 3


NAMES = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def twenty(given: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, ...]]:
    """A teacher of twenty classes, ten of which are the digits in another order, as torch saves it, and their names."""
    model = models.load(models.Mlp(64, (64,), 10), given("x / 16"))
    names = tuple(str(each // 2) if each % 2 else f"letter {each}" for each in reversed(range(20)))
    weights = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    for name in ("module.head.weight", "module.head.bias"):
        own, wider = weights[name], torch.full((20, *weights[name].shape[1:]), 1.0)
        wider[[names.index(digit) for digit in NAMES]] = own
        weights[name] = wider
    path = tmp_path_factory.mktemp("twenty") / "twenty.pth"
    torch.save({"epoch": 9, "ema": weights}, path)
    return path, names


def test_a_teacher_of_twenty_classes_teaches_data_that_have_ten_of_them_in_another_order(
    store: FolderStore, make_spec: MakeSpec, given: Callable[[str], Path], twenty: tuple[Path, tuple[str, ...]]
) -> None:
    path, names = twenty
    own = {"model": MODEL, "checkpoint": str(path), "normalise": {"mean": [0.0], "std": [16 / 255]}}
    plain = {"model": MODEL, "checkpoint": str(given("x / 16")), "normalise": {"mean": [0.0], "std": [16 / 255]}}

    done = run(make_spec(teacher=own | {"classes": list(names)}), store)
    wanted = run(make_spec(teacher=plain), store)
    both = run(make_spec(teacher=None, teachers=[own | {"classes": list(names)}, plain], average="logits"), store)

    assert done["load teacher"].record.summary.endswith("parameters, names without 'module.'")  # type: ignore[union-attr]
    assert warned(done["load teacher"].record) == {}
    for title in ("soft labels", "evaluate teacher"):
        assert done[title].record.accuracy == wanted[title].record.accuracy > 0.9  # type: ignore[union-attr]
    assert both["evaluate teacher"].record.accuracy == wanted["evaluate teacher"].record.accuracy  # type: ignore[union-attr]
    assert both["evaluate teacher"].record.agreement == 1.0  # type: ignore[union-attr]


def test_a_class_that_a_given_teacher_does_not_know_is_refused_by_its_name(
    store: FolderStore, make_spec: MakeSpec, twenty: tuple[Path, tuple[str, ...]], digits: Arrays, tmp_path: Path
) -> None:
    path, names = twenty
    changed = ["Seven" if name == "7" else name for name in names]
    inputs, targets = digits.train_inputs, digits.train_targets
    arrays = tmp_path / "arrays.npz"
    np.savez(arrays, inputs=inputs, targets=targets, classes=["seven" if name == "7" else name for name in NAMES])
    teacher = {"model": MODEL, "checkpoint": str(path), "classes": changed}
    runtime = replace(CPU, data=(tmp_path,))
    spec = make_spec(teacher=teacher, dataset={"name": "arrays", "path": "arrays.npz"})

    with pytest.raises(InvalidSpec, match=r"teacher.classes: the teacher's 20 classes lack '7' of the data's 10"):
        make_spec(teacher=teacher).with_files()
    store_given(spec, store)
    data, load = Plan.of(spec).trunk[:2]
    runner = StageRunner(store, runtime, lambda *_: None)
    runner.run(data)
    with pytest.raises(
        InvalidSpec, match=r"^teacher.classes: .* lack 'seven' of the data's 10; did you mean 'Seven'\?"
    ):
        runner.run(load)


def record_of(mean: tuple[float, ...], std: tuple[float, ...], shape: tuple[int, ...]) -> DatasetRecord:
    return DatasetRecord(
        shape=shape, class_names=("a", "b"), train_samples=1, labelled_samples=1, validation_samples=0,
        test_samples=1, mean=mean, std=std,
    )  # fmt: skip


@pytest.mark.parametrize("bytes_", [True, False])
def test_a_mean_and_deviation_of_ones_own_are_of_bytes_by_255_and_of_other_numbers_as_they_are(bytes_: bool) -> None:
    stored = torch.randint(0, 256, (5, 3, 4, 4)).float() if bytes_ else 100 * torch.randn(5, 3, 4, 4)
    mean, std = stored.mean((0, 2, 3)), stored.std((0, 2, 3))
    data = record_of(tuple(mean.tolist()), tuple(std.tolist()), (3, 4, 4))
    given = MeanAndDeviation(mean=(0.5, 0.25, 0.0), std=(0.5, 2.0, 1.0))
    own = [torch.tensor(values)[:, None, None] for values in (given.mean, given.std)]

    seen = prepared(torch.nn.Identity(), given, data, CPU.device, bytes_=bytes_)(
        (stored - mean[:, None, None]) / std[:, None, None]
    )

    torch.testing.assert_close(seen, ((stored / 255 if bytes_ else stored) - own[0]) / own[1], atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("largest", [1.0, 255.0])
def test_imagenet_is_what_torchvision_calls_so(largest: float) -> None:
    pixels = torch.rand(5, 3, 4, 4)
    mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
    data = record_of(tuple((largest * mean).tolist()), tuple((largest * std).tolist()), (3, 4, 4))
    here = (pixels - mean[:, None, None]) / std[:, None, None]
    wanted = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]

    seen = prepared(torch.nn.Identity(), "imagenet", data, CPU.device)(here)

    torch.testing.assert_close(seen, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("normalise", "data", "message"),
    [
        ("imagenet", record_of((1.0,), (1.0,), (1, 4, 4)), "imagenet is of 3 channels"),
        ("unit", record_of((), (), (7,)), "the inputs are tokens"),
        (MeanAndDeviation(mean=(0.0,), std=(1.0,)), record_of((), (), (7,)), "the inputs are tokens, or several"),
        (MeanAndDeviation(mean=(0.0,) * 3, std=(1.0,) * 3), record_of((1.0,), (1.0,), (1, 4, 4)), "3 means, and"),
    ],
)
def test_what_the_data_cannot_be_normalised_as_is_refused(
    normalise: NormaliseInputs, data: DatasetRecord, message: str
) -> None:
    with pytest.raises(InvalidSpec, match=message):
        prepared(torch.nn.Identity(), normalise, data, CPU.device)


def test_a_teacher_that_is_trained_here_takes_what_all_take(make_spec: MakeSpec) -> None:
    with pytest.raises(ValidationError, match="'normalise' is for a checkpoint"):
        make_spec(teacher={"model": MODEL, "normalise": "unit"})


def test_where_nothing_is_said_of_a_teachers_inputs_plans_and_keys_are_as_they_were(
    make_spec: MakeSpec, given: Callable[[str], Path]
) -> None:
    one = Plan.of(make_spec(teacher=teacher(given("data"))))
    two = Plan.of(make_spec(teacher=None, teachers=[teacher(given("data")), teacher(given("unit"))]))
    other = Plan.of(make_spec(teacher=teacher(given("data"), "unit")))

    assert "normalise" not in one.model_dump_json()
    assert "normalise" not in two.model_dump_json()
    assert one.trunk[1].key != other.trunk[1].key
    assert Plan.model_validate_json(other.model_dump_json()) == other
