"""The commands that speak to a queue, as people and programs use them."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import distill, with_workers

WaitUntil = Callable[..., Any]


@pytest.fixture
def queue(stack: LocalStack) -> dict[str, str]:
    """An environment that reaches the stack."""
    return dict(os.environ) | stack.settings.environment | {"COLUMNS": "140"}


@with_workers(1)
def test_several_specs_are_submitted_changed_and_watched(
    queue: dict[str, str], write_spec: Callable[..., Path], client: PipelineClient
) -> None:
    spec = write_spec()

    done = distill(queue, "submit", spec, spec, "--set", "students.0.name=renamed", "--set", "name=changed", "--watch")

    assert (done.returncode, done.stderr) == (0, "")
    first, second = (line for line in done.stdout.splitlines()[:2])
    assert first.startswith("changed-")
    assert {status.id for status in client.pipelines()} == {first, second}
    assert done.stdout.count("renamed") >= 2


@with_workers(0)
def test_nothing_is_submitted_where_one_of_several_specs_is_wrong(
    queue: dict[str, str], write_spec: Callable[..., Path], client: PipelineClient, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: x\n")

    done = distill(queue, "submit", write_spec(), wrong)

    assert done.returncode == 2
    assert "wrong.yaml" in done.stderr
    assert client.pipelines() == []


def test_programs_read_where_pipelines_stand_and_who_works(
    queue: dict[str, str], write_spec: Callable[..., Path], client: PipelineClient, wait_until: WaitUntil
) -> None:
    pipeline = distill(queue, "submit", write_spec()).stdout.strip()
    wait_until(lambda: client.status(pipeline).finished, "it ends")

    all_of_them, one, workers = (
        json.loads(distill(queue, *command, "--json").stdout)
        for command in (("status",), ("status", pipeline), ("workers",))
    )

    assert all_of_them == [one]
    assert (one["id"], one["state"]) == (pipeline, "done")
    assert [stage["title"] for stage in one["stages"]][:2] == ["prepare digits", "train teacher"]
    assert all(stage["outcome"] == "computed" and stage["seconds"] > 0 for stage in one["stages"])
    assert sorted(worker["name"].partition("@")[0] for worker in workers) == ["worker-1", "worker-2"]
    wait_until(lambda: distill(queue, "workers").stdout.count("waits for work") == 2, "both are free")


@with_workers(1)
def test_a_worker_is_listed_with_what_it_does(
    queue: dict[str, str], client: PipelineClient, long_spec: PipelineSpec, wait_until: WaitUntil
) -> None:
    pipeline = client.submit(long_spec).id

    def does() -> str:
        return " ".join(worker["does"] for worker in json.loads(distill(queue, "workers", "--json").stdout))

    wait_until(lambda: f"{pipeline} · train teacher" in does(), "a worker says that it trains the teacher")
    client.cancel(pipeline)


@with_workers(1)
def test_finished_pipelines_are_read_as_json_and_csv_and_compared(
    queue: dict[str, str], write_spec: Callable[..., Path], client: PipelineClient, wait_until: WaitUntil
) -> None:
    pipelines = distill(queue, "submit", write_spec(), write_spec(), "--priority", "high").stdout.split()
    wait_until(lambda: all(client.status(each).finished for each in pipelines), "they end")

    rows = list(csv.DictReader(distill(queue, "results", pipelines[0], "--csv").stdout.splitlines()))
    facts = json.loads(distill(queue, "results", pipelines[0], "--json").stdout)
    students = json.loads(distill(queue, "compare", *pipelines, "--json").stdout)
    table = distill(queue, "compare", *pipelines)
    both = distill(queue, "compare", *pipelines, "--json", "--csv")

    assert [(row["model"], row["role"]) for row in rows] == [
        ("teacher", "teacher"),
        ("small", "student"),
        ("small", "control"),
    ]
    assert float(rows[1]["accuracy"]) == facts["scores"]["students"][0]["accuracy"]["mean"]
    assert [student["pipeline"] for student in students] == pipelines
    assert all(pipeline in table.stdout for pipeline in pipelines)
    assert (both.returncode, both.stderr) == (2, "error: --json and --csv: choose one\n")
    assert {status.plan.priority for status in client.pipelines()} == {"high"}


@with_workers(0)
def test_a_shell_completes_the_ids_of_pipelines(queue: dict[str, str], write_spec: Callable[..., Path]) -> None:
    pipeline = distill(queue, "submit", write_spec()).stdout.strip()

    asked = {"_DISTILL_COMPLETE": "complete_bash", "COMP_WORDS": f"distill status {pipeline[:6]}", "COMP_CWORD": "2"}
    completed = distill(queue | asked)

    assert completed.stdout.split() == [pipeline]


@with_workers(1)
def test_a_cancelled_pipeline_is_tried_again_as_it_was(
    queue: dict[str, str], write_spec: Callable[..., Path], client: PipelineClient, wait_until: WaitUntil
) -> None:
    first = distill(queue, "submit", write_spec(), "--set", "teacher.training.epochs=200").stdout.strip()
    distill(queue, "cancel", first)

    again = distill(queue, "retry", first)

    second = again.stdout.strip()
    assert again.returncode == 0, again.stderr
    assert second != first
    wait_until(lambda: client.status(second).state == "done", "it is done")
    assert client.status(second).plan == client.status(first).plan
    unknown = distill(queue, "retry", "nothing-1234")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
