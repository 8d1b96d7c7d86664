"""What a worker does with a task's message: the task loop on a real broker and store, with stages that take no time.

Each test says what its stage does, attempt by attempt, and how the pipeline then stands.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redis
from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery
from celery.contrib.testing.worker import start_worker

from distill_queue.shared.broker.celery_app import lists_of
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import InvalidInput, StageFailed, StoreUnavailable, UnreadableRecord
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.logs import PipelineLogs
from distill_queue.shared.ledger.status import StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import STAGE_FORMAT, Bundle, Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.app import create
from distill_queue.worker.coordination.attempts import Attempts
from distill_queue.worker.coordination.leases import Leases
from distill_queue.worker.process.main_process import MainProcess
from distill_queue.worker.task.runners import Report
from tests.conftest import wait_until

#: What an attempt does before its stage is computed.
Attempt = Callable[[Report], object]
RECORD = DatasetRecord(
    shape=(1,),
    class_names=("a", "b"),
    train_samples=2,
    labelled_samples=2,
    validation_samples=0,
    test_samples=2,
    mean=(0.0,),
    std=(1.0,),
)


@dataclass(slots=True)
class StubRunners:
    """Runners that compute each stage at once, after what a test has them do in each attempt."""

    store: ArtifactStore
    attempts: list[Attempt] = field(default_factory=list)
    begun: int = 0

    def load(self) -> None:
        """Need nothing."""

    def make(self, _queue: str, report: Report, **_: Any) -> tuple[str, StubRunner]:
        """A runner for one attempt."""
        attempt = self.attempts[self.begun] if self.begun < len(self.attempts) else None
        self.begun += 1
        return "a stub", StubRunner(self.store, report, attempt)


@dataclass(slots=True)
class StubRunner:
    """Computes one stage."""

    store: ArtifactStore
    report: Report
    attempt: Attempt | None

    def run(self, stage: Stage) -> Artifact:
        """Do what the test says, and commit."""
        if self.attempt:
            self.attempt(self.report)
        return commit(self.store, stage)

    def train(self, bundle: Bundle, missing: Bundle) -> dict[str, Artifact | StageFailed]:
        """No test trains."""
        raise NotImplementedError

    def help(self, stage: Stage) -> int:
        """No test has helpers."""
        raise NotImplementedError


def commit(store: ArtifactStore, stage: Stage, record: DatasetRecord = RECORD) -> Artifact:
    """Put a stage's artifact into the store."""
    provenance = Provenance(host="here", device="a stub", versions={})
    with store.draft(stage.ref) as draft:
        (draft / "data").write_text("of the stub")
        return store.commit(stage.ref, draft, stage=stage, record=record, provenance=provenance, seconds=0.0)


class Loop:
    """A worker that is not started yet, its broker and store, and the stage that tests send to it."""

    def __init__(self, settings: Settings, spec: PipelineSpec) -> None:
        self.settings, self.plan = settings, Plan.of(spec)
        self.stage = self.plan.trunk[0]
        self.broker: Any = connect(settings)
        self.ledger = Ledger(self.broker, settings.history_seconds)
        self.store = FolderStore(settings.folder)
        self.runners = StubRunners(self.store)
        self.app: Celery = create(settings, lambda *_: self.runners)
        # Else a worker that has nothing to do ends only when it has waited for a message for a second.
        self.app.conf.broker_transport_options |= {"polling_interval": 0.05}
        self.connections = MainProcess.of(self.app).connections()
        self.pipelines: list[str] = []

    def attempts(self, *attempts: Attempt) -> None:
        """Say what the first attempts do; those after them only compute the stage."""
        self.runners.attempts = list(attempts)

    def open(self, pipeline: str) -> None:
        """Enter a pipeline into the ledger."""
        self.ledger.open(pipeline, self.plan)
        self.pipelines.append(pipeline)

    def send(self, pipeline: str = "p", changes: dict[str, Any] | None = None, **options: Any) -> None:
        """Send the stage's message for a new pipeline."""
        self.open(pipeline)
        stage = self.stage.model_dump(mode="json") | (changes or {})
        kwargs = {"pipeline": pipeline, "stages": [stage]}
        self.app.tasks["distill.prepare_data"].apply_async(kwargs=kwargs, queue="any", **options)

    @contextmanager
    def working(self) -> Iterator[None]:
        """A worker in a thread of this process."""
        options: dict[str, Any] = {"pool": "solo", "perform_ping_check": False, "shutdown_timeout": 30}
        with start_worker(self.app, loglevel="info", **options):
            yield

    def work(self) -> None:
        """Have the worker do all that there is to do: until the stage has ended for all, and no message is left."""
        with self.working():
            wait_until(lambda: all(map(self.ended, self.pipelines)) and self.messages == 0, "all is done")

    def ended(self, pipeline: str) -> bool:
        """Whether nothing more is to be done for a pipeline."""
        status = self.ledger.status(pipeline)
        return status.state == "cancelled" or status.states[self.stage.key].state in ("done", "failed")

    @property
    def messages(self) -> int:
        """How many messages wait in queues, or are a worker's."""
        with self.broker.pipeline() as pipe:  # All at one time: messages go from one to the other.
            pipe.hlen("unacked")
            for name in lists_of("any"):
                pipe.llen(name)
            return sum(pipe.execute())

    def state(self, pipeline: str = "p") -> StageState:
        """How the stage stands for a pipeline."""
        return self.ledger.status(pipeline).states[self.stage.key]

    def outcome(self, pipeline: str = "p") -> str:
        """How a pipeline came by the stage's artifact."""
        record = self.state(pipeline).record
        return record.outcome if record else self.state(pipeline).state

    def error(self, pipeline: str = "p") -> str:
        """Why the stage has failed for a pipeline."""
        (error,) = self.ledger.status(pipeline).errors
        return error

    def told(self, words: str, pipeline: str = "p") -> int:
        """In how many lines of the pipeline's log some words stand."""
        logs = PipelineLogs(self.broker, self.settings.history_seconds)
        return sum(words in line.message for line in logs.read(pipeline))

    @property
    def counted_attempts(self) -> int:
        """The attempts that count against the stage."""
        return int(self.broker.llen(f"distill:attempts:{self.stage.key}"))


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Settings of a worker that gives up a lease after a second."""
    return settings.model_copy(update={"visibility_timeout_seconds": 1.0})


@pytest.fixture
def loop(quick: Settings, make_spec: Callable[..., PipelineSpec], monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    """A worker that tries again at once."""
    monkeypatch.setattr("distill_queue.worker.task.endings.LONGEST_WAIT_SECONDS", 0.05)
    monkeypatch.setattr("distill_queue.worker.task.endings.NEWER_SECONDS", 0.05)
    loop = Loop(quick, make_spec())
    yield loop
    loop.app.close()
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


def raising(error: BaseException) -> Attempt:
    """An attempt that ends with an error."""

    def attempt(_report: Report) -> None:
        raise error

    return attempt


def test_what_the_store_has_is_found_and_not_computed(loop: Loop) -> None:
    commit(loop.store, loop.stage)
    loop.send()

    loop.work()

    assert (loop.outcome(), loop.runners.begun) == ("found", 0)
    assert loop.told("found in") == 1


def test_what_the_store_lacks_is_computed_once_for_all_pipelines(loop: Loop) -> None:
    loop.send("one")
    loop.send("two")

    loop.work()

    assert (loop.outcome("one"), loop.outcome("two"), loop.runners.begun) == ("computed", "found", 1)
    assert loop.told("begins on a stub, attempt 1", "one") == 1
    assert loop.counted_attempts == 0
    assert not loop.connections.leases.held(loop.stage.key)


def test_a_running_stage_tells_how_far_it_is(loop: Loop) -> None:
    seen: list[StageState] = []

    def attempt(report: Report) -> None:
        report("epoch 1/2", 10, 0.5)
        seen.append(loop.state())

    loop.attempts(attempt)
    loop.send()

    loop.work()

    ((state, progress, share),) = [(each.state, each.progress, each.share) for each in seen]
    assert (state, progress, share) == ("running", "epoch 1/2", 0.5)


def test_the_time_left_is_that_of_the_piece_of_work_that_has_begun_last(loop: Loop) -> None:
    share = 0.1

    def report_and_look(report: Report) -> bool:
        nonlocal share
        share = min(share + 0.001, 0.4)
        report("images", 0, share)
        return " left" in loop.state().progress

    def attempt(report: Report) -> None:
        report("files", 0, 0.5)
        wait_until(lambda: report_and_look(report), "the time left is told")

    loop.attempts(attempt)
    loop.send()

    loop.work()

    assert loop.outcome() == "computed"


def test_a_stage_that_another_task_computes_is_parked_and_woken_when_that_ends(loop: Loop) -> None:
    second = loop.app.signature(
        "distill.prepare_data",
        kwargs={"pipeline": "two", "stages": [loop.stage.model_dump(mode="json")]},
        queue="any",
    )

    def another_worker_takes_the_second_message(_report: Report) -> None:
        kept = loop.connections.kept_messages.sealed(second)
        assert loop.connections.leases.acquire(loop.stage.key, "another", "second", kept) is None

    loop.attempts(another_worker_takes_the_second_message)
    loop.open("two")
    loop.send("one")

    loop.work()

    assert (loop.outcome("one"), loop.outcome("two")) == ("computed", "found")


def test_a_stage_behind_the_lease_of_a_dead_worker_waits_until_that_has_run_out(loop: Loop) -> None:
    assert loop.connections.leases.acquire(loop.stage.key, "a dead worker", "its task", "its message")
    loop.broker.persist(f"distill:lease:{loop.stage.key}")  # It begins to run out when the stage is parked.
    loop.send()

    with loop.working():
        waiting = wait_until(lambda: loop.state().progress, "it is parked")
        wait_until(lambda: loop.outcome() == "computed", "the housekeeping wakes it")

    assert waiting == "waits: another pipeline computes prepare digits"
    assert loop.runners.begun == 1


def test_a_worker_that_lost_its_lease_leaves_the_stage_to_the_one_that_took_over(loop: Loop) -> None:
    lease = f"distill:lease:{loop.stage.key}"

    def attempt(report: Report) -> None:
        loop.broker.set(lease, "another#worker/task/token", ex=60)
        wait_until(lambda: report("at it"), "the worker notices")

    loop.attempts(attempt)
    loop.send()

    with loop.working():
        wait_until(lambda: loop.told("waits: another pipeline computes prepare digits"), "it is parked in its turn")
        loop.broker.delete(lease)
        wait_until(lambda: loop.outcome() == "computed", "the one that took over has died, and it goes on")

    assert loop.told("left: another worker took over the stage") == 1


def test_while_the_store_does_not_work_a_stage_is_tried_again_and_no_attempt_counted(loop: Loop) -> None:
    broken = raising(StoreUnavailable("store: no space left"))
    loop.attempts(*[broken] * 4)
    loop.send()

    loop.work()

    assert (loop.outcome(), loop.runners.begun) == ("computed", 5)
    assert loop.told("tries again in 0 s: store: no space left") == 4
    assert loop.told("begins on a stub, attempt 1") == 5


def test_a_store_that_does_not_work_for_too_long_fails_the_stage(
    quick: Settings, make_spec: Callable[..., PipelineSpec]
) -> None:
    loop = Loop(quick.model_copy(update={"retry_seconds": 0.0}), make_spec())
    loop.attempts(raising(StoreUnavailable("store: no space left")))
    loop.send()

    loop.work()

    assert loop.error() == "prepare digits: store: no space left (tried again for 0 s)"


@pytest.mark.parametrize(("times", "outcome"), [(2, "computed"), (3, "failed")])
def test_a_bug_is_tried_again_until_the_attempts_are_used_up(loop: Loop, times: int, outcome: str) -> None:
    loop.attempts(*[raising(ValueError("a bug"))] * times)
    loop.send()

    loop.work()

    assert (loop.outcome(), loop.runners.begun) == (outcome, 3)
    assert loop.told("prepare digits: a bug") == times
    if outcome == "failed":
        assert loop.error().startswith("prepare digits: given up after 3 attempts: 1. on ")
        assert loop.error().count("ValueError: a bug (test_task_loop.py:") == 3


@pytest.mark.parametrize("error", [InvalidInput("digits: no such data"), StageFailed("the loss is not finite")])
def test_what_can_never_have_a_result_fails_at_once_and_for_the_next_pipeline_too(loop: Loop, error: Exception) -> None:
    loop.attempts(raising(error))
    loop.send("one")
    loop.send("two")

    loop.work()

    assert loop.runners.begun == 1
    assert loop.error("one") == loop.error("two")
    assert str(error).removeprefix("digits: ") in loop.error("one")


def test_a_stage_that_reaches_its_time_limit_fails_and_another_pipeline_may_give_it_longer(loop: Loop) -> None:
    loop.attempts(raising(SoftTimeLimitExceeded()))
    loop.send("hasty", soft_time_limit=4.0)
    loop.send("patient")

    loop.work()

    assert loop.error("hasty") == (
        "prepare digits: took longer than its time limit of 4 s: raise it under 'time_limits' in the spec"
    )
    assert loop.outcome("patient") == "computed"


@pytest.mark.parametrize("is_there", [True, False])
def test_data_that_are_not_what_their_pipeline_needs_fail_for_this_one_alone(
    quick: Settings, make_spec: Callable[..., PipelineSpec], is_there: bool
) -> None:
    photos = {"name": "image_folder", "path": "photos", "size": 4}
    best = {"model": {"name": "mlp", "hidden": [8]}, "training": {"keep": "best"}}
    loop = Loop(quick, make_spec(dataset=photos))
    if is_there:
        commit(loop.store, loop.stage)
    loop.send("any")
    loop.plan = Plan.of(make_spec(dataset=photos, teacher=best))
    loop.send("choosing")

    loop.work()

    assert loop.outcome("any") == ("found" if is_there else "computed")
    assert loop.error("choosing").startswith(
        "prepare photos: 'train teacher' needs held-out samples, and photos has none: set dataset.validation"
    )
    assert loop.stage.ref in loop.store
    assert loop.runners.begun == (0 if is_there else 1)


def test_while_much_data_are_compared_with_what_was_found_progress_is_told_and_a_cancellation_ends_it(
    quick: Settings, make_spec: Callable[..., PipelineSpec], tmp_path: Path
) -> None:
    with (tmp_path / "points.npz").open("wb") as file:
        file.truncate(50_000_000_000)  # It takes a minute to hash, and no room on the disk.
    settings = quick.model_copy(update={"data": (tmp_path,)})
    loop = Loop(settings, make_spec(dataset={"name": "arrays", "path": "points.npz"}))
    commit(loop.store, loop.stage, RECORD.model_copy(update={"content": "0" * 64}))
    loop.send()

    with loop.working():
        told = wait_until(lambda: loop.state().progress, "it is told")
        loop.ledger.cancel("p")
        wait_until(lambda: loop.messages == 0, "it ends")

    assert told.startswith("comparing the files: 0 of 1 files, ")
    assert loop.ledger.status("p").state == "cancelled"


def test_a_cancelled_pipelines_stage_is_not_begun(loop: Loop) -> None:
    loop.send()
    loop.ledger.cancel("p")

    loop.work()

    assert (loop.ledger.status("p").state, loop.runners.begun) == ("cancelled", 0)


def test_a_pipeline_that_is_cancelled_stops_its_running_stage_at_a_step(loop: Loop) -> None:
    def attempt(report: Report) -> None:
        loop.ledger.cancel("cancelled")
        report("step 1")
        raise AssertionError("it goes on")

    loop.attempts(attempt)
    loop.send("cancelled")
    loop.send("another")

    loop.work()

    assert loop.told("left: the pipeline was cancelled; it was at step 1", "cancelled") == 1
    assert loop.ledger.status("cancelled").state == "cancelled"
    assert loop.outcome("another") == "computed", "its lease is given up, and no attempt counted"
    assert loop.told("attempt 1", "another") == 1


def test_a_worker_that_is_told_to_end_hands_its_stage_back(loop: Loop) -> None:
    handed_back: list[StageState] = []

    def ends(report: Report) -> None:
        MainProcess.of(loop.app).instance.stop.ask()
        report("step 1")

    def goes_on(_report: Report) -> None:
        handed_back.append(loop.state())

    loop.attempts(ends, goes_on)
    loop.send()

    loop.work()

    assert loop.told("ends; it was at step 1") == 1
    assert loop.told("begins on a stub, attempt 1") == 2
    assert (loop.outcome(), len(handed_back)) == ("computed", 1)


def test_a_stage_of_a_newer_format_is_left_to_newer_workers(loop: Loop) -> None:
    loop.send(changes={"format": STAGE_FORMAT + 1, "what_is_new": 1})

    with loop.working():
        waiting = wait_until(lambda: loop.state().progress, "the worker refuses it")

    assert waiting == f"stage format {STAGE_FORMAT + 1}: this worker knows {STAGE_FORMAT}: update it"
    assert (loop.state().state, loop.runners.begun, loop.messages) == ("waiting", 0, 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"key": "0" * 64}, "planned by another version of distill-queue: submit the pipeline again"),
        ({"recipe": {"kind": "prepare_data"}}, "not a stage: "),
    ],
)
def test_a_stage_that_this_version_does_not_mean_fails(loop: Loop, changes: dict[str, Any], reason: str) -> None:
    loop.stage = loop.stage.model_copy(update={"key": changes.get("key", loop.stage.key)})
    loop.plan = loop.plan.model_copy(update={"trunk": (loop.stage, *loop.plan.trunk[1:])})
    loop.send(changes=changes)

    loop.work()

    assert loop.error().startswith(f"prepare digits: {reason}")
    assert loop.runners.begun == 0


def test_a_broker_that_refuses_what_a_stage_needs_costs_the_pipeline_nothing(
    loop: Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, refused = Attempts.begin, []

    def refuse_once(self: Attempts, keys: list[str], worker: str) -> int:
        if not refused:
            refused.append(keys)
            raise redis.ResponseError("OOM command not allowed when used memory > 'maxmemory'")
        return begin(self, keys, worker)

    monkeypatch.setattr(Attempts, "begin", refuse_once)
    loop.send()

    loop.work()

    assert refused
    assert loop.outcome() == "computed"


@pytest.mark.parametrize(("times", "outcome"), [(2, "computed"), (3, "failed")])
def test_what_fails_outside_of_an_attempt_is_tried_again_a_few_times(
    loop: Loop, monkeypatch: pytest.MonkeyPatch, times: int, outcome: str
) -> None:
    acquire, failing = Leases.acquire, iter([True] * times)

    def fail_at_first(self: Leases, key: str, worker: str, task_id: str, message: str) -> Any:
        if next(failing, False):
            raise MemoryError("no room for a thread")
        return acquire(self, key, worker, task_id, message)

    monkeypatch.setattr(Leases, "acquire", fail_at_first)
    loop.send()

    loop.work()

    assert loop.outcome() == outcome
    if outcome == "failed":
        assert loop.error().startswith("prepare digits: MemoryError: no room for a thread (test_task_loop.py:")


def test_a_stage_is_done_though_what_waits_for_it_cannot_be_sent(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def unpark(*_: object) -> None:
        raise UnreadableRecord("its queue at the broker is of another type")

    monkeypatch.setattr(Leases, "unpark", unpark)
    loop.send()

    loop.work()

    assert loop.outcome() == "computed"
