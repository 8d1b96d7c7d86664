"""What trainings begin with: weights in a file, and the end of an earlier training."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from celery.contrib.testing.worker import start_worker
from safetensors.torch import load_file

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.client.continued import with_continued
from distill_queue.scheduler.client.given_files import store_given
from distill_queue.scheduler.client.outcome import keep_results
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import HandedBack, InvalidSpec
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.planned_spec import PlannedSpec
from distill_queue.shared.plan.starts import STATE, alike, new_schedules
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import not_drawn
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.submissions import Submissions
from distill_queue.worker.app import create
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.context import WEIGHTS
from distill_queue.worker.stages.runner import StageRunner

CPU = Runtime(torch.device("cpu"))
MLP = {"name": "mlp", "hidden": [8]}
#: A training whose schedule does not depend on the number of its epochs.
STEADY = {"epochs": 2, "schedule": "constant", "batch_size": 128, "keep_state": True}

Trained = dict[str, Artifact]


def spec_of(student: dict[str, Any], **changes: Any) -> PipelineSpec:
    return PipelineSpec.of(
        {
            "name": "p",
            "dataset": {"name": "digits", "validation": 0.2},
            "teacher": {"model": {"name": "mlp", "hidden": [16]}, "training": {"epochs": 1}},
            "students": [{"name": "s", "model": MLP} | student],
        }
        | changes
    )


def train(spec: PipelineSpec, store: FolderStore, plan: Plan | None = None) -> Trained:
    """Do the stages of a plan up to the trainings of its students."""
    plan = plan or Plan.of(spec)
    store_given(store, spec, plan)
    runner = StageRunner(store, CPU, lambda *_: None)
    made: Trained = {}
    for stage in plan.stages:
        if stage.kind in ("prepare_data", "train_teacher", "soft_labels", "distill", "train_control"):
            made[stage.title] = store.find(stage.ref) or runner.run(stage)
    return made


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path(WEIGHTS))


def record(artifact: Artifact) -> TrainingRecord:
    assert isinstance(artifact.record, TrainingRecord)
    return artifact.record


def continued(earlier: Trained, names: tuple[str, str] = ("distill s", "train s/control")) -> dict[str, Any]:
    """What the client finds of a student that is trained on from."""

    def model(artifact: Artifact) -> dict[str, str]:
        stage = artifact.manifest.stage
        assert stage is not None
        kept = STATE in artifact.manifest.files
        return {"key": stage.key} | ({"alike": alike(stage.recipe, stage.inputs)} if kept else {})  # type: ignore[arg-type]

    student, control = (model(earlier[name]) for name in names)
    return {"pipeline": "p-1", "student": "s", "runs": [{"seed": 0, "student": student, "control": control}]}


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "store")


def test_students_their_controls_and_teachers_start_from_a_file(
    store: FolderStore, student_weights: Callable[..., dict[str, str]]
) -> None:
    still = {"epochs": 1, "learning_rate": 1e-12}
    spec = spec_of(
        {"weights": student_weights(), "training": still, "seeds": 2},
        teacher={"model": MLP, "weights": student_weights(), "training": still},
    )

    made = train(spec, store)

    for title in ("train teacher", "distill s, seed 0", "train s, seed 1/control"):
        for name, value in {
            "layers.0.weight": 0.01,
            "layers.0.bias": 0.5,
            "head.weight": 0.25,
            "head.bias": 0.75,
        }.items():
            torch.testing.assert_close(weights(made[title])[name].unique().mean().item(), value, atol=1e-6, rtol=0)
        assert record(made[title]).start == "from w.safetensors"
    assert "from w.safetensors" in record(made["train teacher"]).summary


def test_a_head_for_other_classes_is_drawn_anew_and_this_is_said(
    store: FolderStore, student_weights: Callable[..., dict[str, str]]
) -> None:
    still = {"epochs": 1, "learning_rate": 1e-12}

    made = train(spec_of({"weights": student_weights(classes=7, prefix="module."), "training": still}), store)

    found = weights(made["distill s"])
    assert found["head.weight"].shape == (10, 8)
    assert len(found["head.weight"].unique()) == 80
    torch.testing.assert_close(found["layers.0.bias"], torch.full((8,), 0.5))
    said = "from w.safetensors; names without 'module.'; head.weight, head.bias drawn anew, for other classes"
    assert record(made["distill s"]).start == record(made["train s/control"]).start == said


def test_weights_without_a_head_are_taken(store: FolderStore, student_weights: Callable[..., dict[str, str]]) -> None:
    file = student_weights(**{"head.weight": None, "head.bias": None})

    made = train(spec_of({"weights": file, "training": {"epochs": 1}}), store)

    assert "head.weight, head.bias drawn anew" in (record(made["distill s"]).start or "")


@pytest.mark.parametrize(
    "more",
    [{}, {"keep": "best", "optimizer": "sgd", "learning_rate": 0.1}, {"schedule": "step", "milestones": [1]}],
)
def test_two_epochs_and_two_more_are_four_to_the_byte(store: FolderStore, more: dict[str, Any]) -> None:
    dropping = {"name": "mlp", "hidden": [8], "dropout": 0.2}
    training = STEADY | more
    student = {"model": dropping, "training": training}
    at_once = train(spec_of({"model": dropping, "training": training | {"epochs": 4}}), store)
    earlier = train(spec_of(student), store)

    spec = spec_of(student | {"continues": continued(earlier)})
    later = train(spec, store)

    assert not list(new_schedules(Plan.of(spec).stages))
    for title in ("distill s", "train s/control"):
        one, other = at_once[title], later[title]
        assert one.path(WEIGHTS).read_bytes() == other.path(WEIGHTS).read_bytes(), title
        assert one.path("history.json").read_bytes() == other.path("history.json").read_bytes()
        assert record(other).epochs == 4
        assert record(other).start == "goes on with s of p-1"


def test_a_training_that_goes_on_can_be_left_and_ends_with_the_same_bytes(store: FolderStore) -> None:
    earlier = train(spec_of({"training": STEADY}), store)
    at_once = train(spec_of({"training": STEADY | {"epochs": 4}}), store)
    stage = next(
        each
        for each in Plan.of(spec_of({"training": STEADY, "continues": continued(earlier)})).stages
        if each.kind == "distill"
    )
    steps = 0

    def leave(progress: str, *_: object) -> None:
        nonlocal steps
        steps += "step" in progress
        if steps == 11:
            raise HandedBack(progress)

    with pytest.raises(HandedBack):
        StageRunner(store, CPU, leave).run(stage)
    made = StageRunner(store, CPU, lambda *_: None).run(stage)

    assert made.path(WEIGHTS).read_bytes() == at_once["distill s"].path(WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("earlier", "now", "why"),
    [
        ({"keep_state": False}, {}, "its state was not kept: keep_state: true keeps it"),
        ({}, {"schedule": "one_cycle"}, "the schedule one_cycle depends on how many epochs there are"),
        ({}, {"warmup": 0.1}, "its warmup depends on how many epochs there are"),
        ({}, {"learning_rate": 0.01}, "it was trained otherwise than now, or on other data or soft labels"),
    ],
)
def test_where_a_training_cannot_go_on_a_new_schedule_starts_from_its_weights(
    store: FolderStore, earlier: dict[str, Any], now: dict[str, Any], why: str
) -> None:
    before = train(spec_of({"training": STEADY | earlier}), store)
    spec = spec_of({"training": STEADY | now, "continues": continued(before)})

    (said,) = new_schedules(Plan.of(spec).stages)
    later = train(spec, store)

    assert said == f"s of p-1: a new schedule starts from its weights: {why}"
    assert record(later["distill s"]).epochs == 2
    assert record(later["distill s"]).start == "from s of p-1"


def test_stacked_trainings_start_each_from_its_own_weights(
    store: FolderStore, student_weights: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    grid = {"weights": {"file": {"grid": []}}, "training": {"epochs": 1, "learning_rate": 1e-12}}
    for number in range(3):
        student_weights(**{"layers.0.bias": torch.full((8,), float(number))})
        path = (tmp_path / "w.safetensors").rename(tmp_path / f"{number}.safetensors")
        grid["weights"]["file"]["grid"].append(str(path))  # type: ignore[index]
    spec = spec_of(grid)
    plan = Plan.of(spec)
    train(spec_of({}), store)
    store_given(store, spec, plan)
    bundle = next(bundle for bundle in plan.bundles if bundle[0].kind == "distill")

    outcomes = StageRunner(store, CPU, lambda *_: None).train(bundle, bundle)

    found = [weights(each)["layers.0.bias"].mean().item() for each in outcomes.values() if isinstance(each, Artifact)]
    assert sorted(map(round, found)) == [0, 0, 1, 1, 2, 2]


def test_a_planned_spec_has_the_same_keys(
    store: FolderStore, student_weights: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    earlier = train(spec_of({"training": STEADY}), store)
    for student in ({"training": STEADY, "continues": continued(earlier)}, {"weights": student_weights()}):
        plan = Plan.of(spec_of(student))
        planned = PlannedSpec.of(plan)
        for name, ref in planned.files.items():
            (tmp_path / name).write_bytes((tmp_path / "w.safetensors").read_bytes())
            assert ref.kind == "checkpoint"
        (tmp_path / "again.yaml").write_text(planned.text)

        again = Plan.of(PipelineSpec.load(tmp_path / "again.yaml"))

        assert [stage.key for stage in again.stages] == [stage.key for stage in plan.stages]


@pytest.fixture
def client(settings: Settings) -> Iterator[PipelineClient]:
    """A client with a worker in a thread of this process."""
    with start_worker(create(settings), pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield PipelineClient(settings)
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


def finish(client: PipelineClient, spec: PipelineSpec) -> str:
    pipeline = client.submit(spec)
    for _ in client.watch(pipeline):
        pass
    assert client.results(pipeline)
    return pipeline.id


def test_a_student_of_an_earlier_pipeline_is_trained_on_seed_by_seed(
    client: PipelineClient, settings: Settings
) -> None:
    student = {"training": STEADY, "seeds": 2}
    at_once = Plan.of(spec_of({"training": STEADY | {"epochs": 4}, "seeds": 2}))
    earlier = finish(client, spec_of(student))
    finish(client, spec_of({"training": STEADY | {"epochs": 4}, "seeds": 2}))

    later = finish(client, spec_of(student | {"continues": {"pipeline": earlier, "student": "s"}}))

    store, plan = FolderStore(settings.folder), client.status(later).plan
    for stage in at_once.stages:
        if stage.kind in ("distill", "train_control"):
            (same,) = (store.open(each.ref) for each in plan.stages if each.title == stage.title)
            assert same.path(WEIGHTS).read_bytes() == store.open(stage.ref).path(WEIGHTS).read_bytes(), stage.title
    notes = not_drawn(ReportFacts.read(client.status(later), store))
    assert notes == (
        "Not begun with drawn weights: distill s, seed 0, distill s, seed 1, train s, seed 0/control, "
        f"train s, seed 1/control (goes on with s of {earlier}).",
    )
    refused = {
        "no student 'x'": {"continues": {"pipeline": earlier, "student": "x"}},
        "nobody-1": {"continues": {"pipeline": "nobody-1", "student": "s"}},
        "trained with seed 0, 1, and not with 2": {"seeds": 3},
        "is mlp 8, not mlp 9": {"model": {"name": "mlp", "hidden": [9]}},
    }
    for said, changes in refused.items():
        asked = student | {"continues": {"pipeline": earlier, "student": "s"}} | changes
        with pytest.raises(InvalidSpec, match=rf"students\[0\]\.continues: .*{said}"):
            client.submit(spec_of(asked))
    keep_results(settings, client.results(earlier))
    asked = spec_of(student | {"continues": {"pipeline": earlier, "student": "s"}})
    without_broker = settings.model_copy(update={"broker_url": "redis://127.0.0.1:1/0"})
    assert Plan.of(with_continued(asked, without_broker)).report.key == plan.report.key


def test_what_a_pipeline_goes_on_from_is_kept_and_said_to_be_gone_where_it_is(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    client, store = PipelineClient(settings), FolderStore(settings.folder)
    spec = spec_of({"training": STEADY})
    earlier = client.submit(spec).id
    asked = spec_of({"training": STEADY, "continues": {"pipeline": earlier, "student": "s"}})
    with pytest.raises(
        InvalidSpec, match=r"'s' of .* is not in the store: it is not trained yet, or was removed since"
    ):
        client.submit(asked)
    train(spec, store)
    later = client.submit(asked).id
    client.cancel(earlier)
    assert not caplog.messages
    changed = {"training": STEADY | {"schedule": "cosine"}, "continues": {"pipeline": earlier, "student": "s"}}
    client.submit(spec_of(changed))
    assert caplog.messages == [
        f"s of {earlier}: a new schedule starts from its weights: "
        "the schedule cosine depends on how many epochs there are"
    ]
    ledger = Ledger(connect(settings), settings.history_seconds)

    needed = NeededArtifacts.now(ledger, Submissions(store))

    start = next(stage for stage in Plan.of(spec).stages if stage.kind == "distill")
    assert later in needed.pipelines[start.key]
    assert Submissions(store).find(later) is not None
