"""How other projects' label caches broke, each failure tried on ours; docs/soft-labels.md has the table."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from distill_queue.shared.errors import ArtifactDamaged, HandedBack, InvalidInput, StoreUnavailable
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage, label_file_ref
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.writer import FINISHED, LABELS, SoftLabelsWriter
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.offline import recompute
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.crew import Alone, Crew
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.stages.soft_labels import Labelling
from tests.unit.shared.soft_labels.test_soft_labels import ENCODINGS, IDS, fill, header, logits, written

MakeSpec = Callable[..., PipelineSpec]
Logits = npt.NDArray[np.float32]

CPU = Runtime(torch.device("cpu"))
SAMPLES = 1438
#: Four blocks of scikit-learn's digits, one a view.
FOUR = {"dtype": "float32", "views": 4, "augmentation": {"shift": 1}}
TWO = {"views": 2, "augmentation": {"shift": 1}}
#: Above it `distill labels verify` fails, by default.
TOLERANCE = 1e-3


def say_nothing(*_: object) -> None: ...


@dataclass(frozen=True)
class Made:
    """A plan, and a store with what comes before its soft labels."""

    plan: Plan
    store: FolderStore

    @property
    def labels(self) -> Stage:
        return self.plan.trunk[-1]

    def run(self, stage: Stage, report: Callable[..., None] = say_nothing, crew: Crew | None = None) -> Artifact:
        """Do a stage as a worker does, and clear its unfinished work away as a worker does."""
        shards = "auto" if crew is None else 2
        done = StageRunner(self.store, CPU, report, crew=crew or Alone(), shards=shards).run(stage)
        self.store.forget_partial(stage.ref)
        return done

    @property
    def runner(self) -> StageRunner:
        return StageRunner(self.store, CPU, say_nothing)

    def context(self, stage: Stage) -> StageContext:
        return self.runner.context(self.runner.opened(stage), self.store.root)

    def found(self) -> SoftLabels:
        return SoftLabels.open(self.store.open(self.labels.ref).folder)

    def replace(self, values: Logits | None = None, **facts: Any) -> None:
        """Put other labels in place of these: all checksums are right, the manifest too."""
        right = self.store.open(self.labels.ref)
        labels = SoftLabels.open(right.folder)
        if values is None:
            values = every_view(labels)
        other = labels.header.sealed(()).model_copy(update=facts)
        writer = SoftLabelsWriter.begin(self.store.root / "other", other)
        fill(writer, values)
        writer.seal()
        shutil.rmtree(right.folder)
        manifest = right.manifest
        self.store.commit(
            self.labels.ref,
            writer.folder / LABELS,
            stage=manifest.stage,
            record=manifest.record,
            provenance=manifest.provenance,
            seconds=0.0,
        )


@pytest.fixture
def make(make_spec: MakeSpec, tmp_path: Path) -> Callable[..., Made]:
    """Make all that comes before the soft labels of a small pipeline."""

    def made(folder: str = "store", **soft_labels: Any) -> Made:
        found = Made(Plan.of(make_spec(soft_labels=soft_labels)), FolderStore(tmp_path / folder))
        for stage in found.plan.trunk[:-1]:
            found.run(stage)
        return found

    return made


def every_view(labels: SoftLabels) -> Logits:
    return np.stack([labels.batch(slice(None), view) for view in range(labels.header.views)])


def bytes_of(artifact: Artifact) -> dict[str, bytes]:
    return {name: artifact.path(name).read_bytes() for name in artifact.manifest.files}


# FKD writes to the final name and skips what is there: a truncated file is trusted for ever.


def test_a_file_of_full_length_that_was_never_finished_is_not_trusted(tmp_path: Path) -> None:
    writer = SoftLabelsWriter.begin(tmp_path, header())
    fill(writer, logits(), [0, 2])
    folder = writer.folder / LABELS
    column = folder / "logits.bin"

    assert column.stat().st_size == 10 * 3 * 4
    with pytest.raises(ArtifactDamaged, match=HEADER):
        SoftLabels.open(folder)
    (folder / HEADER).write_text(header().model_dump_json())
    with pytest.raises(ArtifactDamaged, match="never finished"):
        SoftLabels.open(folder)
    sealed = header().sealed(("0" * 32, "0" * 32))
    (folder / HEADER).write_text(sealed.model_dump_json())
    with pytest.raises(ArtifactDamaged, match="never finished"):
        SoftLabels.open(folder)


def test_a_truncated_cache_is_made_again_and_not_skipped_because_it_is_there(make: Callable[..., Made]) -> None:
    made = make()
    first = made.run(made.labels)
    right = bytes_of(first)
    with first.path("logits.bin").open("r+b") as file:
        file.truncate(1_000)

    assert made.store.find(made.labels.ref) is None
    again = made.run(made.labels)

    assert bytes_of(again) == right


def test_a_file_that_was_cut_and_filled_up_with_zeros_is_found(tmp_path: Path) -> None:
    labels = written(tmp_path, logits())
    path = labels.folder / "logits.bin"
    with path.open("r+b") as file:
        file.truncate(60)
        file.truncate(120)

    with pytest.raises(ArtifactDamaged, match="samples 4 to 7 of view 0 differ"):
        SoftLabels.open(labels.folder).verify()


# TinyViT publishes in a destructor and ignores the mover's exit code: a kill loses the epoch.

#: A writer of six blocks that ends halfway through the fourth.
ENDING = """
import os, signal, sys
from pathlib import Path
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from tests.unit.shared.soft_labels.test_soft_labels import fill, header, logits

writer, really, written = SoftLabelsWriter.begin(Path(sys.argv[1]), header(2)), os.pwrite, []

def pwrite(descriptor, data, offset):
    written.append(offset)
    if len(written) < 4:
        return really(descriptor, data, offset)
    really(descriptor, bytes(data[:20]), offset)
    os.kill(os.getpid(), signal.SIGKILL) if sys.argv[2] == "killed" else sys.exit()

os.pwrite = pwrite
fill(writer, logits(2))
"""


@pytest.mark.parametrize(("how", "code"), [("killed", -signal.SIGKILL), ("ended", 0)])
def test_a_writer_that_ends_early_publishes_nothing_and_loses_the_block_that_it_was_at(
    tmp_path: Path, how: str, code: int
) -> None:
    root = Path(__file__).parents[4]

    done = subprocess.run([sys.executable, "-c", ENDING, tmp_path, how], cwd=root, check=False)

    assert done.returncode == code
    assert not list(tmp_path.rglob(HEADER))
    again = SoftLabelsWriter.begin(tmp_path, header(2))
    assert again.missing == [3, 4, 5]
    fill(again, logits(2))
    np.testing.assert_array_equal(every_view(again.seal()), logits(2))


def test_labels_that_are_stopped_are_no_artifact(make: Callable[..., Made]) -> None:
    made = make(**FOUR)

    with pytest.raises(HandedBack):
        made.run(made.labels, stop_after(2))

    assert made.labels.ref not in made.store
    assert made.store.find(made.labels.ref) is None


def test_a_publication_that_the_disk_refuses_is_an_error_and_is_done_again(
    make: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, really = make(), Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == LABELS:
            raise OSError(errno.EIO, "Input/output error")
        return really(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(StoreUnavailable, match="Input/output error"):
        made.run(made.labels)
    monkeypatch.undo()

    assert made.labels.ref not in made.store
    assert sorted(bytes_of(made.run(made.labels))) == ["logits.bin", HEADER]


# EasyDistill and Megatron-LM match labels by position or step: shuffling, ranks or a lost shard shift them all.


@pytest.fixture(params=[False, True], ids=["in memory", "streamed"])
def batches(request: pytest.FixtureRequest, make: Callable[..., Made]) -> tuple[Batches, SoftLabels, torch.nn.Module]:
    """What a student is shown, the cache that it is from, and the teacher."""
    made = make(dtype="float32", views=3, augmentation={"shift": 1, "flip": True, "mixup": 0.3, "seed": 5})
    made.run(made.labels)
    labels, context = made.found(), made.context(made.labels)
    augmentation = AugmentationSpec.model_validate(labels.header.augmentation)
    teacher_logits = TeacherLogits.of(labels, CPU.device, streamed=request.param)
    split = context.split("train", streamed=request.param)
    shown = Batches(split, augmentation, 3, torch.float32, teacher_logits)
    return shown, labels, context.model("teacher").eval()


Shown = tuple[Batches, SoftLabels, torch.nn.Module]


def test_each_image_comes_with_what_the_teacher_says_of_it_whatever_the_order_the_step_and_the_stack(
    batches: Shown,
) -> None:
    shown, labels, teacher = batches
    generator = torch.Generator().manual_seed(0)
    stack = torch.stack([torch.randperm(SAMPLES, generator=generator) for _ in range(2)])

    for epoch in (4, 0, 2):
        view = shown.view(epoch)
        for batch, rows in zip(shown.each(stack.split(100, dim=1), view), stack.split(100, dim=1), strict=True):
            assert batch.teacher_logits is not None
            for member in range(2):
                with torch.inference_mode():
                    said = teacher(batch.inputs[member])
                np.testing.assert_allclose(batch.teacher_logits[member].numpy(), said.numpy(), rtol=1e-3, atol=1e-3)
                np.testing.assert_array_equal(
                    batch.teacher_logits[member].numpy(), labels.batch(rows[member].numpy(), epoch % 3)
                )


def test_the_labels_of_two_views_are_not_the_same(batches: Shown) -> None:
    """Without which a reader that forgets the view would pass."""
    _, labels, _ = batches

    first, second, third = every_view(labels)

    assert (np.abs(first - second).max(axis=1) > 1e-2).mean() > 0.9
    assert (np.abs(second - third).max(axis=1) > 1e-2).mean() > 0.9


@pytest.mark.parametrize(
    "parts",
    [
        lambda rows: [rows[rank::3] for rank in range(3)],
        lambda rows: rows.split(1),
        lambda rows: [rows[70:]],
        lambda rows: [rows.flip(0)],
    ],
    ids=["ranks", "accumulation", "from the middle on", "backwards"],
)
def test_a_part_of_a_batch_has_the_labels_that_it_has_in_the_whole(batches: Shown, parts: Callable[..., Any]) -> None:
    shown, labels, _ = batches
    rows = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(1))[:100]

    for part in parts(rows):
        (batch,) = shown.each([part[None]], 1)
        assert batch.teacher_logits is not None
        np.testing.assert_array_equal(batch.teacher_logits[0].numpy(), labels.batch(part.numpy(), 1))


@pytest.mark.parametrize("lost", [0, 2, 5])
def test_a_lost_shard_moves_no_other_labels_into_its_place(tmp_path: Path, lost: int) -> None:
    values = logits(2)
    writer = SoftLabelsWriter.begin(tmp_path, header(2))
    fill(writer, values, [block for block in range(6) if block != lost])

    in_place = SoftLabels(writer.folder / LABELS, writer.header)

    for block in range(6):
        view, rows = writer.header.rows_of(block)
        expected = np.zeros_like(values[view, rows]) if block == lost else values[view, rows]
        np.testing.assert_array_equal(in_place.batch(rows, view), expected)
    with pytest.raises(InvalidInput, match="1 of 6 blocks were never written"):
        writer.seal()


def test_shards_that_moved_up_are_found(tmp_path: Path) -> None:
    labels = written(tmp_path, logits(2))
    path, block = labels.folder / "logits.bin", 4 * 3 * 4
    content = path.read_bytes()
    path.write_bytes(content[:block] + content[2 * block :] + bytes(block))

    with pytest.raises(ArtifactDamaged, match="samples 4 to 7 of view 0 differ"):
        SoftLabels.open(labels.folder).verify()


@dataclass
class Together:
    """A crew whose other worker is given some blocks when it is called, and which gives out the rest backwards."""

    made: Made
    taken: tuple[int, ...]
    #: How many of these it does before it dies.
    done: int
    present: int = 1

    def call(self, *_: float) -> bool:
        helper = StageRunner(self.made.store, CPU, say_nothing, crew=Given(self.taken[: self.done]))
        assert helper.help(self.made.labels) == self.done
        return True

    def blocks(self, total: int) -> Iterator[int]:
        return (block for block in reversed(range(total)) if block not in self.taken)


@dataclass
class Given(Alone):
    """A helper that is given certain blocks."""

    given: tuple[int, ...] = ()

    def blocks(self, total: int) -> Iterator[int]:
        return iter(self.given)


@pytest.mark.parametrize(
    ("taken", "done"),
    [((), 0), ((1,), 1), ((3, 0), 2), ((2, 1, 3, 0), 4), ((2,), 0), ((3, 0, 1), 1)],
    ids=["no helper", "one block", "two", "all", "the helper dies at once", "it dies after a block"],
)
def test_workers_that_share_the_blocks_write_the_bytes_of_one_and_whoever_dies_shifts_nothing(
    make: Callable[..., Made], taken: tuple[int, ...], done: int
) -> None:
    alone, shared = make("alone", **FOUR), make("shared", **FOUR)

    together = shared.run(shared.labels, crew=Together(shared, taken, done))

    assert bytes_of(together) == bytes_of(alone.run(alone.labels))


# Megatron-LM and torchdistill name a cache without its teacher, its data or its transform: a stale one is used.

#: Another value for every field of these, none the default.
OTHER = {
    TrainingSpec: {
        "epochs": 3, "batch_size": 128, "optimizer": "sgd", "learning_rate": 2e-3, "weight_decay": 0.1,
        "schedule": "cosine", "warmup": 0.1, "label_smoothing": 0.1, "augmentation": {"shift": 1}, "keep": "best",
        "patience": 1, "seed": 1, "precision": "bfloat16", "momentum": 0.5, "nesterov": False, "clip_norm": 1.0,
        "accumulate": 2, "milestones": [2], "gamma": 0.5, "power": 2.0, "ema_decay": 0.9, "class_weights": "balanced",
        "sampling": "balanced", "best_by": "loss", "freeze": ["head.bias"], "learning_rates": {"head.*": 0.1},
        "layer_decay": 0.5,
    },
    AugmentationSpec: {
        "shift": 2, "flip": True, "cutout": 3, "mixup": 0.25, "crop": {"area": [0.5, 1.0]}, "rotation": 10.0,
        "rand_augment": {"magnitude": 5}, "jitter": {"hue": 0.1}, "grayscale": 0.2, "cutmix": 0.5, "seed": 1,
    },
    SoftLabelsSpec: {"dtype": "uint8", "top_k": 3, "views": 2, "augmentation": {"shift": 2}, "shards": 4},
    NamedDatasetSpec: {
        "name": "own:other", "options": {"part": 2}, "version": "2", "validation": 0.2, "labelled": 500,
        "normalise": "unit",
    },
}  # fmt: skip
#: What some fields of a training need beside them.
STEPWISE = {"epochs": 3, "schedule": "step", "milestones": [1]}
NEEDED = {
    "momentum": {"optimizer": "sgd"}, "nesterov": {"optimizer": "sgd"}, "milestones": STEPWISE, "gamma": STEPWISE,
    "power": {"schedule": "polynomial"}, "best_by": {"keep": "best"},
}  # fmt: skip
DATASET = {"name": "own:data", "options": {"part": 1}, "validation": 0.1}


def key_of(make_spec: MakeSpec, **changes: Any) -> str:
    usual = {
        "dataset": DATASET,
        "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2}},
        "soft_labels": {"augmentation": {"shift": 1}},
    }
    spec = {name: value | changes.get(name, {}) for name, value in usual.items()}
    return Plan.of(make_spec(**spec)).trunk[-1].key


def changes() -> Iterator[Any]:
    for field, value in OTHER[NamedDatasetSpec].items():
        yield pytest.param({"dataset": {field: value}}, id=f"dataset.{field}")
    for field, value in OTHER[TrainingSpec].items():
        if field not in NEEDED:
            yield pytest.param({"teacher": {"training": {"epochs": 2, field: value}}}, id=f"teacher.training.{field}")
    for field, value in OTHER[SoftLabelsSpec].items():
        if field != "shards":
            yield pytest.param({"soft_labels": {field: value}}, id=f"soft_labels.{field}")
    for field, value in OTHER[AugmentationSpec].items():
        other = {"soft_labels": {"augmentation": {"shift": 1, field: value}}}
        yield pytest.param(other, id=f"soft_labels.augmentation.{field}")
    for model in ({"name": "mlp", "hidden": [33]}, {"name": "cnn"}, {"name": "own:model"}):
        yield pytest.param({"teacher": {"model": model}}, id=f"teacher.model {model}")


@pytest.mark.parametrize("change", list(changes()))
def test_all_that_labels_depend_on_is_in_their_key(make_spec: MakeSpec, change: dict[str, Any]) -> None:
    assert key_of(make_spec, **change) != key_of(make_spec)


@pytest.mark.parametrize("field", NEEDED)
def test_what_a_training_may_only_say_beside_something_else_is_in_the_key_too(make_spec: MakeSpec, field: str) -> None:
    without: dict[str, Any] = {"epochs": 2} | NEEDED[field]

    keys = {
        key_of(make_spec, teacher={"training": training})
        for training in (without, without | {field: OTHER[TrainingSpec][field]})
    }

    assert len(keys) == 2


@pytest.mark.parametrize("spec", OTHER, ids=lambda spec: spec.__name__)
def test_no_field_that_labels_depend_on_is_left_out_of_these_tests(spec: type[TrainingSpec]) -> None:
    assert set(OTHER[spec]) == set(spec.model_fields) - {"keep_state"}  # No teacher's training is continued.


def test_what_labels_do_not_depend_on_is_not_in_their_key(make_spec: MakeSpec) -> None:
    student = {"name": "other", "model": {"name": "mlp", "hidden": [9]}}

    for other in ({"name": "other"}, {"students": [student]}, {"soft_labels": {"shards": 4}}, {"device": "gpu"}):
        assert Plan.of(make_spec(**other)).trunk[-1].key == Plan.of(make_spec()).trunk[-1].key


def test_weights_and_labels_in_a_file_are_known_by_their_content(make_spec: MakeSpec, tmp_path: Path) -> None:
    path, found = tmp_path / "x.safetensors", set()

    for content in (b"one", b"two"):
        path.write_bytes(content)
        teacher = {"model": {"name": "mlp", "hidden": [32]}, "checkpoint": str(path)}
        found |= {Plan.of(make_spec(teacher=teacher)).trunk[-1].key, label_file_ref(path).key}

    assert len(found) == 4


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"dataset_key": "a" * 64}, "made for data set aaaaaaaa"),
        ({"class_names": tuple("1023456789")}, "its class 0 is '1', not '0'"),
        ({"augmentation": {"shift": 2}}, "made with augmentation"),
        ({"augmentation": {}}, "made with augmentation none"),
        ({"augmentation_fingerprint": "a" * 32}, "other random numbers"),
    ],
    ids=["data", "classes", "transform", "no transform", "random numbers"],
)
def test_a_student_refuses_a_cache_of_something_else_in_the_place_of_its_own(
    make: Callable[..., Made], facts: dict[str, Any], message: str
) -> None:
    made = make(dtype="float32", **TWO)
    made.run(made.labels)
    (student,) = (stage for stage in made.plan.stages if stage.kind == "distill")

    made.replace(**facts)

    with pytest.raises(InvalidInput, match=message):
        made.run(student)


def test_data_whose_content_changed_are_not_labelled(make: Callable[..., Made]) -> None:
    made = make()
    inputs = made.store.open(made.plan.trunk[0].ref).path("train_inputs.npy")
    content = bytearray(inputs.read_bytes())
    content[-1] ^= 1
    inputs.write_bytes(content)

    with pytest.raises(ArtifactDamaged, match="altered"):
        Made(made.plan, FolderStore(made.store.root)).run(made.labels)


# TinyViT and FKD store indices as int16 or float16, which cannot hold 32,768 or 2,049.


@pytest.mark.parametrize(
    "largest",
    [[0, 255], [256, 2_047, 2_048, 2_049, 32_767, 32_768, 65_535], [32_768, 65_535, 65_536, 69_999]],
    ids=["256 classes", "65,536 classes", "70,000 classes"],
)
def test_every_class_of_a_large_vocabulary_comes_back_as_itself(tmp_path: Path, largest: list[int]) -> None:
    values = np.zeros((1, len(largest), largest[-1] + 1), dtype=np.float32)
    values[0, np.arange(len(largest)), largest] = 10.0

    labels = written(tmp_path, values, encoding=Encoding(dtype="float16", top_k=2))
    teacher = TeacherLogits.of(labels, CPU.device)

    assert labels[:].argmax(1).tolist() == largest
    assert teacher.logits(teacher.take(torch.arange(len(largest)), 0, CPU.device)).argmax(1).tolist() == largest


# TinyViT and ml-dr store probabilities at temperature 1: no other can be had.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_one_cache_gives_the_teachers_probabilities_at_any_temperature(
    make: Callable[..., Made], dtype: str, temperature: float
) -> None:
    made = make(dtype=dtype)
    made.run(made.labels)
    labels, context = made.found(), made.context(made.labels)
    rows = np.arange(0, SAMPLES, 7)
    with torch.inference_mode():
        said = context.model("teacher").eval()(context.split("train").normalised(slice(None)))[rows].double()

    found = labels.batch(rows, temperature=temperature)

    exact = (said / temperature).log_softmax(1).numpy()
    bound = 2 * labels.header.encoding.rounding(labels.stored(rows)) / temperature
    assert (np.abs(np.log(found.astype(float)) - exact) <= bound[:, None] + 1e-5).all()
    assert np.abs(exact).max() > 1.0, "rows that are flat would show nothing"


# MaxText stores raw top-k logits without the log-sum-exp: the tail is lost.


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_the_tail_of_a_row_is_not_lost(tmp_path: Path, dtype: Any) -> None:
    values = 2 * logits(1, 20, 1_000)
    exponentials = np.exp(values[0].astype(float))
    largest = np.sort(exponentials, axis=1)[:, -10:]
    tail = 1 - largest.sum(axis=1) / exponentials.sum(axis=1)
    assert (tail > 0.2).all()

    labels = written(tmp_path, values, encoding=Encoding(dtype=dtype, top_k=10))

    known = labels.outside_mass(np.arange(20))
    kept = np.sort(labels.batch(np.arange(20), temperature=1.0).astype(float), axis=1)[:, -10:]
    for found in (known.low, known.estimate, known.high, 1 - kept.sum(axis=1)):
        np.testing.assert_allclose(found, tail, rtol=1e-5)


# ml-dr applies softmax to probabilities when their rounded sum passes 1: 1.0 becomes 0.23.


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_a_confident_row_is_softened_once(tmp_path: Path, encoding: Encoding) -> None:
    values = logits(1, 1_000, 10)
    sure = np.random.default_rng(1).integers(10, size=1_000)
    values[0, np.arange(1_000), sure] += np.linspace(12, 40, 1_000)
    rounded = np.exp(values[0] - np.logaddexp.reduce(values[0], axis=1, keepdims=True)).astype(np.float16)
    assert (rounded.sum(axis=1, dtype=np.float64) > 1.0).any()

    labels = written(tmp_path, values, encoding=encoding)

    probabilities = labels.batch(slice(None), temperature=1.0)
    assert (probabilities.argmax(1) == sure).all()
    assert probabilities.max(1).min() > 0.999
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)


# RayGen numbers shards by count: a restart overwrites finished ones.


def stop_after(blocks: int) -> Report:
    left = [blocks]

    def report(progress: str, samples: int = 0, share: float | None = None) -> None:
        left[0] -= 1
        if not left[0]:
            raise HandedBack(progress)

    return report


def test_a_restart_writes_only_what_is_missing_and_over_nothing_that_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, really = logits(2), os.pwrite
    first = SoftLabelsWriter.begin(tmp_path, header(2))
    fill(first, values, [0, 2, 5])
    before = {path.name: path.stat().st_mtime_ns for path in (first.folder / FINISHED).iterdir()}
    offsets: list[int] = []

    def pwrite(descriptor: int, data: Any, offset: int) -> int:
        offsets.append(offset)
        return really(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    again = SoftLabelsWriter.begin(tmp_path, header(2))
    fill(again, values)

    # Rows of 12 bytes: block 1 is rows 4 to 7 of view 0, blocks 3 and 4 are rows 0 to 7 of view 1.
    assert offsets == [12 * 4, 12 * 10, 12 * 14]
    assert {path.name: path.stat().st_mtime_ns for path in (again.folder / FINISHED).iterdir()}.items() > before.items()
    np.testing.assert_array_equal(every_view(again.seal()), values)


@pytest.mark.parametrize("blocks", [1, 3])
def test_labels_that_were_stopped_go_on_to_the_same_bytes_with_the_blocks_that_are_missing(
    make: Callable[..., Made], blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, undisturbed = make(**FOUR), make("undisturbed", **FOUR)
    labelled: list[int] = []
    really = Labelling.logits

    def logits_of(labelling: Labelling, block: int) -> Any:
        labelled.append(block)
        return really(labelling, block)

    with pytest.raises(HandedBack):
        made.run(made.labels, stop_after(blocks))
    monkeypatch.setattr(Labelling, "logits", logits_of)
    done = made.run(made.labels)

    assert labelled == list(range(blocks - 1, 8)), "a report comes before each block of two a view"
    assert bytes_of(done) == bytes_of(undisturbed.run(undisturbed.labels))


# MaxText's verifier expects another format than its writer writes.


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_what_is_verified_is_what_was_written_and_rows_that_slipped_by_one_fail(
    make: Callable[..., Made], encoding: Encoding
) -> None:
    made = make(**TWO, **encoding.model_dump())
    made.run(made.labels)

    right = recompute(made.labels.ref, 100, 0, made.runner)
    made.replace(np.roll(every_view(made.found()), 1, axis=1))
    slipped = recompute(made.labels.ref, 100, 0, made.runner)

    made.found().verify()
    assert right["error"] <= TOLERANCE
    assert slipped["error"] > 100 * TOLERANCE


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_labels_of_another_view_fail(make: Callable[..., Made], encoding: Encoding) -> None:
    made = make(**TWO, **encoding.model_dump())
    made.run(made.labels)

    made.replace(every_view(made.found())[::-1])

    assert recompute(made.labels.ref, 100, 0, made.runner)["error"] > 100 * TOLERANCE


def test_labels_of_another_teacher_fail(make: Callable[..., Made], make_spec: MakeSpec) -> None:
    made = make()
    made.run(made.labels)
    training = {"epochs": 2, "seed": 1}
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": training}
    other = Made(Plan.of(make_spec(teacher=teacher)), made.store)
    for stage in other.plan.trunk[1:]:
        other.run(stage)

    made.replace(every_view(other.found()))

    assert recompute(made.labels.ref, 100, 0, made.runner)["error"] > 100 * TOLERANCE


def test_one_wrong_row_is_named(make: Callable[..., Made]) -> None:
    made = make(**TWO)
    made.run(made.labels)
    values = every_view(made.found())
    values[1, 700, 3] += 1.0

    made.replace(values)

    found = recompute(made.labels.ref, 100_000, 0, made.runner)
    assert found["error"] > 10 * TOLERANCE
    assert (found["view"], found["sample"]) == (1, 700)


# torchdistill has one small pickle a sample: reading was slower than running the teacher.


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_a_cache_has_as_many_files_whatever_the_samples(tmp_path: Path, encoding: Encoding) -> None:
    few, many = (written(tmp_path / str(samples), logits(2, samples), encoding=encoding) for samples in (5, 1_000))

    names = sorted(path.name for path in many.folder.iterdir())

    assert names == sorted(path.name for path in few.folder.iterdir())
    assert len(names) <= 5
    for name in names:
        content = (many.folder / name).read_bytes()
        assert json.loads(content) if name == HEADER else name.endswith(".bin")


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_reading_opens_no_file(tmp_path: Path, encoding: Encoding, monkeypatch: pytest.MonkeyPatch) -> None:
    labels, opened = written(tmp_path, logits(2, 100), encoding=encoding), []
    really = {module: module.open for module in (builtins, io, os)}

    def counted(module: Any) -> Callable[..., Any]:
        def count(*arguments: Any, **options: Any) -> Any:
            opened.append(arguments)
            return really[module](*arguments, **options)

        return count

    for module in really:
        monkeypatch.setattr(module, "open", counted(module))
    for view in range(2):
        labels.batch(np.array([99, 0, 5]), view)
    monkeypatch.undo()

    assert not opened
