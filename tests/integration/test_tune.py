"""Tuning through a real broker and an in-process worker."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.app import create
from tests.conftest import small_spec

Command = Callable[..., tuple[int, str, str]]
WriteSpec = Callable[..., Path]
WaitUntil = Callable[[Callable[[], Any], str], Any]

DISTILL = str(Path(sys.executable).with_name("distill"))


@pytest.fixture
def worker(settings: Settings) -> Iterator[None]:
    """A worker in a thread of this process."""
    app = create(settings)
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.


@pytest.fixture
def begin(settings: Settings) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command in a process of its own, which is ended after the test."""
    begun: list[subprocess.Popen[str]] = []
    others = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}

    def run(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [DISTILL, *map(str, arguments)],
            env=others | settings.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def students(**changes: Any) -> list[dict[str, Any]]:
    return [small_spec()["students"][0] | changes]


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process, and all that it printed."""
    out, _ = process.communicate()
    return process.returncode, out


def trainings(store: FolderStore) -> set[str]:
    return {ref.key for ref in store.refs("distill")}


@pytest.mark.usefixtures("worker")
def test_a_study_goes_on_after_it_was_killed_and_scores_only_the_best(
    settings: Settings,
    write_spec: WriteSpec,
    begin: Callable[..., subprocess.Popen[str]],
    wait_until: WaitUntil,
) -> None:
    store, spec = FolderStore(settings.folder), write_spec()
    arguments = ("tune", spec, "--on-queue", "--trials", 9)
    killed = begin(*arguments)
    wait_until(lambda: trainings(store), "the first training")
    killed.kill()
    before = trainings(store)

    # In a process of its own: the worker in this one takes what is printed while it works.
    code, out = ended(begin(*arguments))

    assert code == 0, out
    assert "10% of the training samples are held out" in out
    assert "Best of 9 candidates on held-out samples" in out
    assert "On test samples: small: " in out
    assert before < trainings(store)
    assert len(store.refs("evaluate")) == 3, "the teacher, the best candidate and its control"
    assert len(store.refs("train_control")) == 1

    (best,) = (settings.folder / "reports").glob("tiny-tune-*.yaml")
    assert PipelineSpec.load(best).dataset.validation == 0.0, "what the spec of the study says"
    (kept,) = (settings.folder / "reports").glob("tiny-*.json")
    assert PipelineResults.read(kept.read_bytes(), str(kept)).scores.students
    assert "What mattered" in best.with_suffix(".html").read_text()


@pytest.mark.usefixtures("worker")
def test_an_interrupted_study_shows_what_is_best_so_far_and_leaves_nothing_on_the_queue(
    settings: Settings, write_spec: WriteSpec, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin("tune", write_spec(), "--on-queue", "--trials", 10_000)
    assert process.stdout is not None
    while not (line := process.stdout.readline()).startswith("round 1"):
        assert line, "it ended before its first round did"

    process.send_signal(signal.SIGINT)

    out, _ = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on where this one ended" in out
    assert "Best spec: " in out
    assert all(status.finished for status in PipelineClient(settings).pipelines())


@pytest.mark.usefixtures("worker")
def test_candidates_that_cannot_be_trained_are_passed_over(
    begin: Callable[..., subprocess.Popen[str]], write_spec: WriteSpec
) -> None:
    training = {"epochs": 2, "optimizer": "sgd", "learning_rate": {"grid": [1.0e-3, 1.0e3]}}
    distillation = {"loss": "mse", "alpha": 1.0}

    spec = write_spec(students=students(training=training, distillation=distillation))
    code, out = ended(begin("tune", spec, "--on-queue", "--trials", 6))

    assert code == 0, out
    assert "learning_rate 0.001" in out


@pytest.mark.usefixtures("worker")
def test_time_that_is_up_before_a_candidate_is_trained_is_said(
    begin: Callable[..., subprocess.Popen[str]], write_spec: WriteSpec
) -> None:
    teacher = {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 10_000}}

    code, out = ended(begin("tune", write_spec(teacher=teacher), "--on-queue", "--minutes", "0.02"))

    assert code == 1
    assert "no candidate is trained in full yet: the same command goes on where this one ended" in out


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"distillation": {"alpha": {"between": [1, 0]}}}, (), "alpha: the lower end comes first: 1 is not below 0"),
        ({}, ("--student", "smal"), "no student is named 'smal'; did you mean 'small'?"),
        ({"seeds": {"grid": [1, 2]}}, (), "seeds: cannot differ from candidate to candidate"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    command: Command, write_spec: WriteSpec, changes: dict[str, Any], options: tuple[str, ...], message: str
) -> None:
    code, _, err = command("tune", write_spec(students=students(**changes)), *options)

    assert code == 2
    assert message in " ".join(err.split())


def test_a_missing_optuna_is_said_with_what_installs_it(
    command: Command, write_spec: WriteSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    code, _, err = command("tune", write_spec())

    assert code == 2
    assert "pip install 'distill-queue[tune]'" in err
