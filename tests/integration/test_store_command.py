"""The `distill store` commands beside a broker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from tests.acceptance.conftest import distill

MakeSpec = Callable[..., PipelineSpec]
HERE = Provenance(host="here", device="cpu", versions={})


@pytest.fixture
def store(settings: Settings) -> FolderStore:
    """The store of the settings."""
    return FolderStore(settings.folder)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    """An environment that reaches broker and store."""
    return dict(os.environ) | settings.environment | {"COLUMNS": "160"}


def commit_old(store: FolderStore, stage: Stage) -> Path:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text(stage.title)
        record = WeightsRecord(parameters=1)
        made = store.commit(stage.ref, draft, stage=stage, record=record, provenance=HERE, seconds=1.0)
    then = time.time() - 100 * 86_400
    os.utime(made.folder, (then, then))
    return made.folder


def test_what_the_brokers_pipelines_need_is_listed_with_them_and_survives(
    settings: Settings, environment: dict[str, str], store: FolderStore, make_spec: MakeSpec
) -> None:
    pipeline = PipelineClient(settings).submit(make_spec()).id
    (settings.folder / "pipelines" / f"{pipeline}.json").unlink()  # As if it were finished.
    needed = commit_old(store, Plan.of(make_spec()).trunk[1])
    garbage = commit_old(store, Plan.of(make_spec(dataset={"name": "mnist_5k"})).trunk[1])

    listed = json.loads(distill(environment, "store", "ls", "--json").stdout)["artifacts"]
    looked, refused, removed = (
        distill(environment, "store", "gc", *options) for options in (("--dry-run",), (), ("--yes", "--json"))
    )

    assert sorted(each["pipelines"] for each in listed) == [[], [pipeline]]
    assert "artifact train_teacher: 1, " in looked.stdout
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "give --dry-run to look, or --yes to remove" in refused.stderr
    facts = json.loads(removed.stdout)
    assert [each["key"] for each in facts["removed"]] == [garbage.name]
    assert (needed.exists(), garbage.exists()) == (True, False)


def test_without_a_broker_nothing_is_removed_unless_one_does_without(
    environment: dict[str, str], store: FolderStore, make_spec: MakeSpec
) -> None:
    garbage = commit_old(store, Plan.of(make_spec()).report)
    environment |= {"DISTILL_BROKER_URL": "redis://127.0.0.1:1/0"}

    refused, done = (distill(environment, "store", "gc", "--yes", *options) for options in ((), ("--without-broker",)))

    assert refused.returncode == 3
    assert "give --without-broker" in refused.stderr
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("Removed ")
    assert not garbage.exists()


def test_unfinished_work_that_is_leased_stays(
    settings: Settings, environment: dict[str, str], store: FolderStore, make_spec: MakeSpec
) -> None:
    leased, left = Plan.of(make_spec()).trunk[:2]
    then = time.time() - 9 * 86_400
    for stage in (leased, left):
        (store.partial(stage.ref)).mkdir(parents=True)
        os.utime(store.partial(stage.ref), (then, then))
    connect(settings).set(f"distill:lease:{leased.key}", "somebody")

    done = distill(environment, "store", "gc", "--yes")

    assert done.returncode == 0, done.stderr
    assert (store.partial(leased.ref).exists(), store.partial(left.ref).exists()) == (True, False)


def test_verify_ends_with_1_and_sets_aside_only_when_told(
    environment: dict[str, str], store: FolderStore, make_spec: MakeSpec
) -> None:
    folder = commit_old(store, Plan.of(make_spec()).trunk[0])
    whole = distill(environment, "store", "verify", folder.name[:6])
    (folder / "file").write_text("altered")

    damaged = distill(environment, "store", "verify")
    there = folder.exists()
    aside = distill(environment, "store", "verify", "--set-aside", "--json")

    assert (whole.returncode, damaged.returncode, aside.returncode) == (0, 1, 1)
    assert "1 artifacts" in whole.stdout
    assert "damaged: " in damaged.stdout
    assert json.loads(aside.stdout)[0]["state"] == "damaged"
    assert (there, folder.exists()) == (True, False)


def test_the_ledger_gives_plans_of_any_version(settings: Settings, make_spec: MakeSpec) -> None:
    ledger, broker = Ledger(connect(settings), settings.history_seconds), connect(settings)
    ledger.open("one", Plan.of(make_spec()))
    broker.hset("distill:pipeline:newer", "plan", "not of this version")
    broker.hset("distill:pipeline:half", "cancelled", "1")

    assert {pipeline for pipeline, _ in ledger.plan_texts()} == {"one", "newer"}
