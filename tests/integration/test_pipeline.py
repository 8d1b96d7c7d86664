"""A pipeline through a real broker and an in-process worker."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.shared.broker.celery_app import lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import (
    BrokerUnavailable,
    InvalidSpec,
    PipelineFailed,
    UnknownPipeline,
)
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.app import create

MakeSpec = Callable[..., PipelineSpec]
#: Data of each priority's own, so that no pipeline finds what another one made.
DATA = {name: {"name": "digits", "validation": 0.1 * number} for number, name in enumerate(("low", "normal", "high"))}


@pytest.fixture
def app(settings: Settings) -> Iterator[Celery]:
    """The workers' application."""
    app = create(settings)
    yield app
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


@pytest.fixture
def worker(app: Celery) -> Iterator[None]:
    """A worker in a thread of this process."""
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield


@pytest.fixture
def client(settings: Settings) -> PipelineClient:
    """A client of the same broker."""
    return PipelineClient(settings)


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def outcomes(client: PipelineClient, pipeline: str) -> dict[str, str]:
    finish(client, pipeline)
    return {stage.title: stage.outcome for stage in client.results(pipeline).stages}


@pytest.mark.usefixtures("worker")
def test_a_pipeline_is_computed_once_and_found_the_second_time(client: PipelineClient, make_spec: MakeSpec) -> None:
    first = outcomes(client, client.submit(make_spec()).id)
    second = outcomes(client, client.submit(make_spec()).id)

    assert set(first.values()) == {"computed"}
    assert set(second.values()) == {"found"}
    assert list(first) == list(second) == [stage.title for stage in Plan.of(make_spec()).stages]


@pytest.mark.usefixtures("worker")
def test_a_changed_student_computes_only_what_follows_from_it(client: PipelineClient, make_spec: MakeSpec) -> None:
    outcomes(client, client.submit(make_spec()).id)
    student = make_spec().students[0].model_dump(mode="json") | {"distillation": {"temperature": 2.0, "alpha": 0.5}}
    spec = make_spec(students=[student])

    second = outcomes(client, client.submit(spec).id)

    computed = {title for title, outcome in second.items() if outcome == "computed"}
    assert computed == {"distill small", "evaluate small", "report"}


@pytest.mark.usefixtures("worker")
def test_results_compare_the_student_with_its_control_and_the_teacher(
    client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec()).id
    finish(client, pipeline)

    results = client.results(pipeline)

    (score,) = results.scores.students
    assert score.control is not None
    assert score.gain is not None
    assert score.gain.mean == score.student.accuracy - score.control.accuracy
    assert results.scores.teacher.agreement == 1.0
    assert score.student.parameters == score.control.parameters < results.scores.teacher.parameters


@pytest.mark.usefixtures("worker")
def test_what_is_trained_together_has_equal_shares_of_the_time(client: PipelineClient, make_spec: MakeSpec) -> None:
    student = make_spec().students[0].model_dump(mode="json") | {"seeds": 3}
    pipeline = client.submit(make_spec(students=[student])).id
    finish(client, pipeline)

    stages = client.results(pipeline).stages
    shares = [stage for stage in stages if stage.kind in ("distill", "train_control")]

    assert len(shares) == 6
    assert max(stage.seconds for stage in shares) < 2 * min(stage.seconds for stage in shares)
    ends = sorted(stage.ended - stage.seconds for stage in shares)[1:]
    assert ends == pytest.approx(sorted(stage.ended for stage in shares)[:-1], abs=0.05)


@pytest.mark.usefixtures("worker")
def test_a_stage_that_cannot_be_done_fails_its_pipeline_with_one_message(
    client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec(dataset={"name": "nowhere.data:load"})).id

    status = finish(client, pipeline)

    assert status.state == "failed"
    (error,) = status.errors
    assert "does not import 'nowhere'" in error
    assert "DISTILL_PLUGINS=nowhere" in error
    assert error.count("nowhere.data:load") == 1
    assert [state.state for state in status.states.values()] == ["failed"] + ["blocked"] * (len(status.states) - 1)
    with pytest.raises(PipelineFailed, match="nowhere"):
        client.results(pipeline)


def test_two_pipelines_with_one_teacher_train_it_once(app: Celery, client: PipelineClient, make_spec: MakeSpec) -> None:
    pipelines = [client.submit(make_spec(name=name)).id for name in ("one", "two")]

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        found = [outcomes(client, pipeline)["train teacher"] for pipeline in pipelines]

    assert sorted(found) == ["computed", "found"]


def test_a_message_says_in_words_what_it_is(settings: Settings, client: PipelineClient, make_spec: MakeSpec) -> None:
    pipeline = client.submit(make_spec()).id

    with redis.Redis(**settings.broker.redis_options) as broker:
        (message,) = (message for each in lists_of("any") for message in broker.lrange(each, 0, -1))
    headers = json.loads(message)["headers"]

    assert headers["task"] == "distill.prepare_data"
    key = Plan.of(make_spec()).trunk[0].ref.short_key
    assert headers["kwargsrepr"] == f"{pipeline} · prepare digits · key {key}"


def test_the_device_of_a_spec_chooses_the_queue(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    client.submit(make_spec(device="gpu"))

    with redis.Redis(**settings.broker.redis_options) as broker:
        assert [sum(map(broker.llen, lists_of(queue))) for queue in ("gpu", "any")] == [1, 0]


def test_what_has_a_higher_priority_is_done_first(
    app: Celery, client: PipelineClient, make_spec: MakeSpec, settings: Settings
) -> None:
    specs = [make_spec(name=name, priority=name, dataset=data) for name, data in DATA.items()]
    pipelines = [client.submit(spec).id for spec in specs]

    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        plans = [finish(client, pipeline).plan for pipeline in pipelines]

    store = FolderStore(settings.folder)
    low, normal, high = ([store.open(stage.ref).manifest.created for stage in plan.stages] for plan in plans)
    assert max(high) < min(normal)
    assert max(normal) < min(low)


def test_an_unknown_pipeline_is_an_error_that_says_so(client: PipelineClient) -> None:
    with pytest.raises(UnknownPipeline, match="no pipeline 'nothing'"):
        client.status("nothing")


def test_what_a_pipeline_leaves_in_the_broker_expires(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec()).id

    with redis.Redis(**settings.broker.redis_options) as broker:
        assert 0 < broker.ttl(f"distill:pipeline:{pipeline}") <= settings.history_seconds
    assert Ledger(connect(settings), settings.history_seconds).pipelines() == [pipeline]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize(
    "damage", [flip_a_byte, lambda path: path.write_bytes(path.read_bytes()[:-1]), lambda path: path.unlink()]
)
def test_a_damaged_artifact_is_set_aside_with_a_warning_and_made_again(
    settings: Settings,
    client: PipelineClient,
    make_spec: MakeSpec,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pipeline = client.submit(make_spec()).id
    assert finish(client, pipeline).state == "done"
    labels = FolderStore(settings.folder).open(client.status(pipeline).plan.trunk[2].ref)
    whole = labels.path("logits.bin").read_bytes()
    caplog.set_level("WARNING", logger="distill_queue.shared.store.artifact")

    damage(labels.path("logits.bin"))
    second = outcomes(client, client.submit(make_spec()).id)

    assert {title for title, outcome in second.items() if outcome == "computed"} == {"soft labels"}
    assert labels.path("logits.bin").read_bytes() == whole
    assert len(list((settings.folder / "damaged").iterdir())) == 1
    assert f"{labels.folder / 'logits.bin'}: " in caplog.text
    assert "the artifact is set aside, to be made again" in caplog.text


@pytest.mark.usefixtures("worker")
def test_an_input_that_is_gone_is_made_again_before_the_stage_that_needs_it(
    app: Celery,
    settings: Settings,
    client: PipelineClient,
    make_spec: MakeSpec,
    wait_until: Callable[[Callable[[], Any], str], Any],
) -> None:
    plan = Plan.of(make_spec())
    Ledger(connect(settings), settings.history_seconds).open("healed", plan)
    (stage,), _ = plan.branches[1]

    kwargs = {"pipeline": "healed", "stages": [stage.model_dump(mode="json")]}
    app.tasks["distill.distill"].apply_async(kwargs=kwargs, queue="any")

    wait_until(lambda: client.status("healed").states[stage.key].state == "done", "the student is distilled")
    store = FolderStore(settings.folder)
    assert all(ref in store for ref in stage.inputs.values())


@pytest.mark.usefixtures("worker")
def test_nothing_of_a_finished_pipeline_stays_in_the_broker_without_an_expiry(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec, wait_until: Callable[[Callable[[], Any], str], Any]
) -> None:
    broker: Any = connect(settings)
    before = {key for key in broker.scan_iter() if broker.ttl(key) == -1}
    allowed = {"distill:pipelines", "unacked_mutex"}

    for number in range(3):
        assert finish(client, client.submit(make_spec(name=f"p{number}")).id).state == "done"

    def lasting() -> set[str]:
        keys = {key for key in broker.scan_iter() if broker.ttl(key) == -1} - before
        return {key for key in keys if not key.startswith("_kombu.binding.")}

    wait_until(lambda: lasting() <= allowed, "the last task has written its page, and is acknowledged")
    assert not list(broker.scan_iter("celery-task-meta-*")), "what the ledger has is kept a second time"


@pytest.mark.usefixtures("worker")
def test_the_doctor_finds_a_healthy_worker_and_says_what_is_wrong(
    settings: Settings, wait_until: Callable[[Callable[[], Any], str], Any]
) -> None:
    broker: Any = connect(settings)
    wait_until(lambda: list(broker.scan_iter("distill:worker:*")), "the worker enters itself")

    healthy = {finding.subject: finding for finding in examine(settings)}
    broker.config_set("maxmemory-policy", "allkeys-lru")
    try:
        evicting = {finding.subject: finding for finding in examine(settings)}
    finally:
        broker.config_set("maxmemory-policy", "noeviction")
    lost = settings.model_copy(update={"store": "/proc/nowhere"})
    storeless = next(examine(lost))

    assert not [finding for finding in healthy.values() if finding.state == "bad"]
    assert healthy["persistence"].state == "warning", "the tests' server keeps nothing"
    assert any("serves cpu, gpu, any" in finding.detail for finding in healthy.values())
    assert evicting["memory"].state == "bad"
    assert "noeviction" in evicting["memory"].advice
    assert (storeless.subject, storeless.state) == ("store", "bad")


@pytest.mark.usefixtures("worker")
def test_students_teach_others_along_a_chain(
    client: PipelineClient,
    settings: Settings,
    make_spec: MakeSpec,
    wait_until: Callable[[Callable[[], Any], str], Any],
) -> None:
    def student(name: str, hidden: Any, teacher: str | None, seeds: int = 1) -> dict[str, Any]:
        model = {"name": "mlp", "hidden": hidden}
        return {"name": name, "model": model, "teacher": teacher, "seeds": seeds, "training": {"epochs": 1}}

    students = [
        student("small", [8], "medium", seeds=3),
        student("medium", {"grid": [[16], [24]]}, "large"),
        student("large", [32], None, seeds=2),
        student("tiny", [4], "small"),
    ]
    spec = make_spec(students=students, dataset={"name": "digits", "validation": 0.2}, evaluation={"control": False})

    pipeline = client.submit(spec)
    status = finish(client, pipeline.id)

    assert (status.state, status.errors) == ("done", [])
    results = client.results(pipeline.id)
    taught = {score.name: score.teacher for score in results.scores.students}
    assert taught == {"small": "medium", "medium": "large", "large": None, "tiny": "small"}
    page = settings.folder / "reports" / f"{pipeline.id}.html"
    wait_until(page.exists, "the page is written")
    assert "taught by medium" in page.read_text(encoding="utf-8")
    assert set(outcomes(client, client.submit(spec).id).values()) == {"found"}


@pytest.mark.usefixtures("worker")
def test_a_teacher_that_fails_for_good_ends_the_pipeline(client: PipelineClient, make_spec: MakeSpec) -> None:
    training = {"optimizer": "sgd", "learning_rate": 1e3, "schedule": "constant", "epochs": 2}
    spec = make_spec(teacher={"model": {"name": "mlp", "hidden": [32, 32]}, "training": training})

    status = finish(client, client.submit(spec).id)

    assert status.state == "failed"
    (error,) = status.errors
    assert error.startswith("train teacher: the loss is not finite in step ")


@pytest.mark.usefixtures("worker")
def test_a_student_that_fails_leaves_its_bundles_others_done(client: PipelineClient, make_spec: MakeSpec) -> None:
    def student(name: str, learning_rate: float) -> dict[str, Any]:
        training = {"epochs": 2, "optimizer": "sgd", "schedule": "constant", "learning_rate": learning_rate}
        distillation = {"loss": "mse", "alpha": 1.0}  # Grows without bounds where steps are too long.
        model = {"name": "mlp", "hidden": [32, 32]}
        return {"name": name, "model": model, "distillation": distillation, "training": training}

    students = [student("good", 1e-3), student("bad", 1e3), student("too", 1e-4)]
    spec = make_spec(students=students, evaluation={"control": False})
    assert [len(bundle) for bundle in Plan.of(spec).branches[1]] == [3, 3]

    status = finish(client, client.submit(spec).id)

    states = {stage.title: status.states[stage.key].state for stage in status.plan.stages}
    assert (states["distill good"], states["distill bad"], states["report"]) == ("done", "failed", "blocked")
    (error,) = status.errors
    assert error.startswith("distill bad: the loss is not finite in step ")


def test_a_pipeline_whose_messages_are_lost_is_sent_again(
    settings: Settings, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_queue.worker.coordination.rescue.LONGEST_SILENCE_SECONDS", 1.0)
    hasty = settings.model_copy(update={"visibility_timeout_seconds": 1.0})
    client = PipelineClient(hasty)
    pipeline = client.submit(make_spec()).id
    broker: Any = connect(settings)
    broker.delete(*lists_of("any"))

    with start_worker(create(hasty), pool="solo", perform_ping_check=False, shutdown_timeout=30):
        status = finish(client, pipeline)
    gc.collect()

    assert status.state == "done"
    assert not list((settings.folder / "pipelines").iterdir())


def test_a_pipeline_whose_messages_workers_would_refuse_is_not_submitted(
    client: PipelineClient, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_queue.scheduler.client.sender.LONGEST_MESSAGES", 1_000)

    with pytest.raises(
        InvalidSpec, match=r"its .* stages make messages of .* submit the students in several pipelines"
    ):
        client.submit(make_spec())

    assert not client.pipelines()


@pytest.mark.usefixtures("worker")
def test_a_watcher_outlives_a_broker_that_is_away(
    client: PipelineClient, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, away = PipelineClient.status, iter([True] * 3)

    def sometimes_away(self: PipelineClient, pipeline: str) -> PipelineStatus:
        if next(away, False):
            raise BrokerUnavailable("away")
        return status(self, pipeline)

    pipeline = client.submit(make_spec()).id
    monkeypatch.setattr(PipelineClient, "status", sometimes_away)

    assert finish(client, pipeline).state == "done"
    assert next(away, False) is False


@pytest.mark.usefixtures("worker")
def test_several_teachers_and_a_grid_go_through_the_queue(client: PipelineClient, make_spec: MakeSpec) -> None:
    teachers = [{"model": {"name": "mlp", "hidden": [width]}, "training": {"epochs": 2}} for width in (32, 16)]
    grid = make_spec().students[0].model_dump(mode="json", include={"name", "model", "training"})
    grid |= {"distillation": {"temperature": {"grid": [1, 2, 4]}}, "seeds": 2}
    spec = make_spec(dataset={"name": "digits", "validation": 0.2}, teacher=None, teachers=teachers, students=[grid])

    found = outcomes(client, client.submit(spec).id)

    assert set(found.values()) == {"computed"}
    assert list(found) == [stage.title for stage in Plan.of(spec).stages]
    (score,) = client.results(client.pipelines()[0].id).scores.students
    assert score.choice is not None
    assert len(score.choice.held_out) == 3
