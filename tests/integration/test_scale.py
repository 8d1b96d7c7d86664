"""Questions about many pipelines at once have the same answers as about one, in one round trip a page."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.connection import AbstractConnection

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage, bundle_ref
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.submissions import Submissions

MakeSpec = Callable[..., PipelineSpec]
PIPELINES = 24


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    """The ledger of an emptied server."""
    return Ledger(connect(settings), settings.history_seconds)


@pytest.fixture
def plan(make_spec: MakeSpec) -> Plan:
    """A plan with a bundle of several stages."""
    return Plan.of(make_spec(students=[{"name": "s", "model": {"name": "mlp", "hidden": [8]}, "seeds": 3}]))


def record_of(stage: Stage) -> StageRecord:
    made = WeightsRecord(parameters=10)
    return StageRecord(
        key=stage.key, kind=stage.kind, title=stage.title, outcome="computed", seconds=1.0, worker="w@h", record=made
    )


def standing_anyhow(ledger: Ledger, plan: Plan, pipeline: str, seed: int) -> None:
    """Enter a pipeline, and have its stages stand so or so."""
    chosen = random.Random(seed)
    ledger.open(pipeline, plan)
    for stage in plan.stages:
        match chosen.choice(["waiting", "waits", "running", "done", "done", "failed" if seed % 3 else "done"]):
            case "waits":
                ledger.wait(pipeline, [stage.key], "behind another pipeline")
            case "running":
                state = StageState(state="running", progress="epoch 1", share=0.5, began=time.time(), worker="w@h")
                ledger.note(pipeline, [stage.key], state)
            case "done":
                ledger.finish(pipeline, record_of(stage))
            case "failed":
                ledger.fail(pipeline, stage.key, f"{stage.title}: no", "w@h")
    if seed % 5 == 0:
        ledger.cancel(pipeline)


@contextmanager
def counted_sends(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count how often something is sent to a server: once for a command, and once for many in one go."""
    sends, send = [0], AbstractConnection.send_packed_command

    def counting(*arguments: Any, **options: Any) -> None:
        sends[0] += 1
        send(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "send_packed_command", counting)
        yield sends


def test_many_pipelines_read_at_once_stand_as_each_does_alone(
    settings: Settings, ledger: Ledger, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = PipelineClient(settings)
    ids = [f"p{number}" for number in range(PIPELINES)]
    for number, pipeline in enumerate(ids):
        standing_anyhow(ledger, plan, pipeline, seed=number)
    monkeypatch.setattr("distill_queue.shared.ledger.ledger.PAGE_PIPELINES", 7)

    found = client.pipelines()

    assert found == [client.status(pipeline) for pipeline in reversed(ids)]
    assert {status.state for status in found} >= {"cancelled", "running"}
    assert client.ids() == ids[::-1]
    assert client.ids(10) == ids[:-11:-1]
    assert [status.id for status in client.pipelines(9)] == ids[:-10:-1]
    assert [status.id for status in ledger.standings(["gone", "p3", "p1"])] == ["p3", "p1"]


@pytest.mark.parametrize("what", ["status", "store gc", "doctor"])
def test_a_page_of_pipelines_takes_as_many_round_trips_as_a_few(
    settings: Settings, ledger: Ledger, plan: Plan, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    client, store = PipelineClient(settings), FolderStore(settings.folder)
    asks: dict[str, Callable[[], object]] = {
        "status": client.pipelines,
        "store gc": lambda: NeededArtifacts.now(ledger, Submissions(store)),
        "doctor": lambda: list(examine(settings)),
    }
    sends = []
    for upto in (2, PIPELINES):
        for number in range(upto):
            ledger.open(f"p{number}", plan)
        with counted_sends(monkeypatch) as counted:
            asks[what]()
        sends += counted

    assert sends[0] == sends[1]


def test_what_a_signed_plan_needs_is_known(settings: Settings, ledger: Ledger, plan: Plan) -> None:
    bundle = next(bundle for branch in plan.branches for bundle in branch if len(bundle) > 1)
    ledger.open("signed", plan, Keyring.of(["k" * 32]))

    needed = NeededArtifacts.now(ledger, Submissions(FolderStore(settings.folder)))

    assert needed.pipelines[bundle_ref(bundle).key] == ("signed",)
    assert {stage.key for stage in plan.stages} < set(needed.pipelines)
