"""Warnings appear in commands, logs, pages and the client, and in none of them if the spec accepts them."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.logs import LogLine, PipelineLogs
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker import models
from distill_queue.worker.app import create
from tests.acceptance.conftest import clean_environment, distill

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
Command = Callable[..., str]
ODD = """
import numpy as np

def skipping(fails=False):
    if fails:
        raise KeyError("nowhere")
    targets = np.array([3, 7, 40])[np.arange(90) % 3]
    inputs = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    return {"train": (inputs[:60], targets[:60]), "test": (inputs[60:], targets[60:])}

def healthy():
    found = skipping()
    return {name: (inputs, targets // 4 % 3) for name, (inputs, targets) in found.items()}
"""
TEXT = "38 of 41 classes (0, 1, 2, 4, 5 and 33 more) have no training sample"


@pytest.fixture
def odd(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of workers that may import a package with odd data."""
    (tmp_path / "odd.py").write_text(ODD)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    return settings.model_copy(update={"plugins": ("odd",)})


@pytest.fixture
def client(odd: Settings) -> Iterator[PipelineClient]:
    """A client of a worker in a thread of this process, which logs as `distill worker` does."""
    with start_worker(create(odd), pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="info"):
        yield PipelineClient(odd)
    gc.collect()


@pytest.fixture(name="command")
def succeeding_command(command: Callable[..., tuple[int, str, str]]) -> Command:
    """Run a command that succeeds in this process: what it printed."""

    def run(*arguments: str) -> str:
        code, printed, _ = command(*arguments)
        assert not code
        return printed

    return run


def finished(client: PipelineClient, spec: PipelineSpec, wait_until: WaitUntil, settings: Settings) -> tuple[str, str]:
    """The id of a pipeline that is done, and its page."""
    pipeline = client.submit(spec).id
    *_, status = client.watch(pipeline)
    assert status.state == "done", status.errors
    path = FolderStore(settings.folder).report(pipeline)
    wait_until(path.is_file, "the page is written")
    return pipeline, path.read_text()


def warnings_in_log(settings: Settings, pipeline: str, wait_until: WaitUntil) -> list[LogLine]:
    """The warnings in a finished pipeline's log, once its last stage has said that it is done."""
    logs = PipelineLogs(connect(settings), settings.history_seconds)

    def lines() -> list[LogLine]:
        found = list(logs.read(pipeline))
        return found if any("small " in line.message and "%" in line.message for line in found) else []

    return [line for line in wait_until(lines, "the log is written") if line.level == "WARNING"]


def test_odd_data_of_ones_own_are_told_at_the_stage_in_the_log_in_results_and_on_the_page(
    client: PipelineClient, command: Command, make_spec: MakeSpec, settings: Settings, wait_until: WaitUntil
) -> None:
    spec = make_spec(dataset={"name": "odd:skipping"})

    pipeline, page = finished(client, spec, wait_until, settings)

    line = f"! prepare odd:skipping: {TEXT}"
    assert [warning.kind for warning in client.status(pipeline).warnings] == ["unused_classes"]
    assert line in " ".join(command("status", pipeline).split())
    assert line in command("watch", pipeline)
    assert line in command("results", pipeline)
    (told,) = json.loads(command("results", pipeline, "--json"))["warnings"]
    assert (told["stage"], told["accepted"]) == ("prepare odd:skipping", False)
    assert told["text"].startswith(TEXT)
    assert f"<strong>Warning:</strong> prepare odd:skipping: {TEXT}" in page
    (logged,) = warnings_in_log(settings, pipeline, wait_until)
    assert logged.message.startswith(f"prepare odd:skipping: {TEXT}")


def test_what_is_accepted_is_told_on_the_page_only_and_its_stages_are_found(
    client: PipelineClient, command: Command, make_spec: MakeSpec, settings: Settings, wait_until: WaitUntil
) -> None:
    before, _ = finished(client, make_spec(dataset={"name": "odd:skipping"}), wait_until, settings)
    spec = make_spec(dataset={"name": "odd:skipping"}, accept=["unused_classes"])

    pipeline = client.submit(spec).id
    *_, status = client.watch(pipeline)

    assert status.state == "done"
    assert {state.record.outcome for state in status.states.values() if state.record} == {"found"}
    assert TEXT not in command("watch", pipeline)
    assert TEXT not in command("results", pipeline)
    (told,) = json.loads(command("results", pipeline, "--json"))["warnings"]
    assert told["accepted"]
    command("report", pipeline)
    page = FolderStore(settings.folder).report(pipeline).read_text()
    assert f'<li class="faint"><strong>Accepted:</strong> prepare odd:skipping: {TEXT}' in page
    assert warnings_in_log(settings, pipeline, wait_until) == []
    assert len(warnings_in_log(settings, before, wait_until)) == 1


def test_healthy_data_of_ones_own_are_passed_over_in_silence(
    client: PipelineClient, command: Command, make_spec: MakeSpec, settings: Settings, wait_until: WaitUntil
) -> None:
    pipeline, page = finished(client, make_spec(dataset={"name": "odd:healthy"}), wait_until, settings)

    assert client.status(pipeline).warnings == ()
    assert "warnings" not in json.loads(command("results", pipeline, "--json"))
    assert '<ul class="warnings"' not in page
    assert warnings_in_log(settings, pipeline, wait_until) == []


def test_a_given_teacher_that_sees_other_inputs_than_it_was_trained_on_is_told_beside_the_data(
    client: PipelineClient,
    command: Command,
    make_spec: MakeSpec,
    settings: Settings,
    wait_until: WaitUntil,
    tmp_path: Path,
) -> None:
    ignorant = models.Mlp(4, (), 41)
    torch.nn.init.zeros_(ignorant.head.weight)
    models.save(ignorant, tmp_path / "ignorant.safetensors")
    given = {"model": {"name": "mlp", "hidden": []}, "checkpoint": str(tmp_path / "ignorant.safetensors")}

    pipeline, page = finished(client, make_spec(dataset={"name": "odd:skipping"}, teacher=given), wait_until, settings)

    assert [warning.kind for warning in client.status(pipeline).warnings] == ["unused_classes", "teacher_at_chance"]
    assert (
        "! load teacher from ignorant.safetensors: of 60 labelled training samples the teacher is right on"
        in command("results", pipeline)
    )
    assert page.count("<strong>Warning:</strong>") == 2


def validated(tmp_path: Path, *arguments: str | Path, **variables: str) -> tuple[int, str, str]:
    """Run the command on its own; what it does to the store is seen below `tmp_path`."""
    environment = clean_environment(tmp_path / "store") | {"PYTHONPATH": str(tmp_path), "DISTILL_PLUGINS": "odd"}
    done = distill(environment | variables, "validate", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_validate_reads_data_where_it_is_asked_to_and_writes_nothing(
    tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    own = write_spec(dataset={"name": "odd:skipping"}).rename(tmp_path / "own.yaml")
    meant = write_spec(dataset={"name": "odd:skipping"}, accept=["unused_classes"]).rename(tmp_path / "meant.yaml")
    built_in = write_spec().rename(tmp_path / "built_in.yaml")

    unread = validated(tmp_path, own, built_in)
    read = validated(tmp_path, "--data", own, meant, built_in)

    assert unread[0] == read[0] == 0
    assert unread[1].splitlines()[1:] == ["  odd:skipping was not read: --data reads it", f"{built_in}: tiny, 9 stages"]
    lines = read[1].splitlines()
    assert lines[0] == f"{own}: tiny, 9 stages"
    assert lines[1] == "  odd:skipping: 60 training samples; 30 test samples; 41 classes"
    assert lines[2].startswith(f"! {TEXT}")
    assert lines[3] == "  if that is intended, add to the spec: accept: [unused_classes]"
    assert lines[5] == lines[1]
    assert lines[7] == "  digits: 1,438 training samples; 359 test samples; 10 classes"
    assert len(lines) == 8
    assert not (tmp_path / "store" / "artifacts").exists()


def test_validate_says_in_one_message_what_is_wrong_with_data(tmp_path: Path, write_spec: Callable[..., Path]) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    good = write_spec().rename(tmp_path / "good.yaml")
    bad = write_spec(dataset={"name": "odd:skipping", "options": {"fails": True}})
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "odd.py").write_text(ODD)

    failed = validated(tmp_path, "--data", bad, good, PYTHONPATH=str(elsewhere))
    refused = validated(tmp_path, "--data", bad, PYTHONPATH=str(elsewhere), DISTILL_PLUGINS="")
    without_torch = validated(tmp_path, "--data", bad)

    assert [code for code, _, _ in (failed, refused, without_torch)] == [2, 2, 2]
    assert failed[2] == f"error: {bad}: dataset: odd:skipping: KeyError: 'nowhere' (odd.py:6)\n"
    assert "digits: 1,438 training samples" in failed[1], "the others are read all the same"
    assert "this worker does not import 'odd'" in refused[2]
    assert without_torch[2].endswith("the worker's packages are not installed here: pip install '.[worker]'\n")
    for _, _, said in (failed, refused, without_torch):
        assert said.count("\n") == 1
        assert "Traceback" not in said


def test_data_that_cannot_be_read_for_now_keep_no_others_from_being_read(
    tmp_path: Path, write_spec: Callable[..., Path]
) -> None:
    (tmp_path / "odd.py").write_text("def away():\n    raise ConnectionRefusedError(111, 'Connection refused')\n")
    away = write_spec(dataset={"name": "odd:away"}).rename(tmp_path / "away.yaml")
    good = write_spec().rename(tmp_path / "good.yaml")

    code, told, error = validated(tmp_path, "--data", away, good)

    assert code == 1
    assert "digits: 1,438 training samples" in told
    assert error.startswith(f"error: {away}: dataset: odd:away: ConnectionRefusedError")
    assert error.count("\n") == 1


def test_data_whose_code_ends_its_process_get_one_message(tmp_path: Path, write_spec: Callable[..., Path]) -> None:
    (tmp_path / "odd.py").write_text("import os\n\n\ndef ends():\n    os._exit(3)\n")

    code, _, error = validated(tmp_path, "--data", write_spec(dataset={"name": "odd:ends"}))

    assert code == 1
    assert error.endswith("ended without a word (exit code 3): does code that it calls end it?\n")
    assert error.count("\n") == 1
