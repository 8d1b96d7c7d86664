"""Workers' lines reach the clients that ask for them, and hold up no stage."""

from __future__ import annotations

import gc
import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.broker.connection import connect, unchecked_client
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.ledger.logs import KEPT_LINES, LONGEST_MESSAGE, LogLine, PipelineLogs
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.app import create
from distill_queue.worker.telemetry import log_capture as scribe_module
from distill_queue.worker.telemetry.log_capture import LogCapture
from tests.acceptance.conftest import distill, free_port

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]

TALKATIVE = """
import logging, sys
import numpy as np

def data(fails=False, **_):
    print("several", "words", 3)
    print("to the errors", file=sys.stderr)
    for percent in range(100):
        print(f"\\r{percent} %", end="", file=sys.stderr)
    print(file=sys.stderr)
    logging.getLogger("talkative").info("in a log of its own")
    if fails:
        raise KeyError("nowhere")
    inputs = np.zeros((8, 1, 4, 4), np.uint8)
    return {"train": (inputs, np.arange(8) % 2), "test": (inputs, np.arange(8) % 2)}
"""


@pytest.fixture
def plugins(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of workers that may import a talkative package."""
    (tmp_path / "talkative.py").write_text(TALKATIVE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "talkative", raising=False)
    return settings.model_copy(update={"plugins": ("talkative",)})


@pytest.fixture
def worker(plugins: Settings) -> Iterator[None]:
    """A worker in a thread of this process that logs as `distill worker` does."""
    with start_worker(create(plugins), pool="solo", perform_ping_check=False, shutdown_timeout=30, loglevel="info"):
        yield
    gc.collect()


@pytest.fixture
def client(settings: Settings) -> PipelineClient:
    """A client of the same broker."""
    return PipelineClient(settings)


@pytest.fixture
def logs(settings: Settings) -> PipelineLogs:
    """The same broker's logs."""
    return PipelineLogs(connect(settings), settings.history_seconds)


def lines_of(client: PipelineClient, logs: PipelineLogs, pipeline: str) -> list[LogLine]:
    return list(logs.follow(pipeline, lambda: client.status(pipeline).finished))


def said(lines: list[LogLine], title: str, client: PipelineClient, pipeline: str) -> list[str]:
    (key,) = (stage.ref.short_key for stage in client.status(pipeline).plan.stages if stage.title == title)
    return [line.message for line in lines if key in line.stages]


@pytest.mark.usefixtures("worker")
def test_a_pipelines_log_tells_of_each_stage_from_its_beginning_to_its_end(
    client: PipelineClient, logs: PipelineLogs, make_spec: MakeSpec
) -> None:
    first, second = (client.submit(make_spec(name=name)).id for name in ("first", "second"))

    again, lines = (lines_of(client, logs, pipeline) for pipeline in (second, first))

    begins, one, two, end = said(lines, "train teacher", client, first)
    assert begins.startswith("train teacher: begins on cpu (")
    assert begins.endswith("), attempt 1")
    assert one.startswith("epoch 1/2 · loss ")
    assert two.startswith("epoch 2/2 · loss ")
    assert end.startswith("computed in ")
    assert all(said(lines, stage.title, client, first) for stage in client.status(first).plan.stages)
    assert "found in 0" in "".join(said(again, "train teacher", client, second))
    assert not [line for line in lines if "lease" in line.message]


@pytest.mark.usefixtures("worker")
def test_every_one_of_many_quick_epochs_is_logged_once(
    client: PipelineClient, logs: PipelineLogs, make_spec: MakeSpec
) -> None:
    teacher = {"model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 80, "batch_size": 512}}
    pipeline = client.submit(make_spec(teacher=teacher)).id

    told = said(lines_of(client, logs, pipeline), "train teacher", client, pipeline)

    epochs = [message.partition(" ·")[0] for message in told if message.startswith("epoch")]
    assert epochs == [f"epoch {number}/80" for number in range(1, 81)]


@pytest.mark.usefixtures("worker")
def test_what_own_code_prints_and_logs_is_there_in_whole_lines(
    client: PipelineClient, logs: PipelineLogs, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec(dataset={"name": "talkative:data", "options": {"fails": True}})).id

    told = lines_of(client, logs, pipeline)

    levels = {line.message: line.level for line in told}
    assert levels["several words 3"] == "INFO"
    assert levels["to the errors"] == "WARNING"
    assert levels["99 %"] == "WARNING"
    assert not {f"{percent} %" for percent in range(99)} & set(levels)
    assert levels["in a log of its own"] == "INFO"
    (trace,) = (message for message in levels if "Traceback" in message)
    assert 'raise KeyError("nowhere")' in trace
    assert trace.endswith("KeyError: 'nowhere'")
    assert "talkative:data: KeyError: 'nowhere' (talkative.py:13)" in told[-1].message
    assert not isinstance(sys.stdout, scribe_module.Printed)


@pytest.mark.usefixtures("worker")
def test_the_command_shows_a_stage_the_last_lines_or_json(
    settings: Settings, client: PipelineClient, logs: PipelineLogs, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec()).id
    told = lines_of(client, logs, pipeline)
    teacher = client.status(pipeline).plan.trunk[1]

    of_stage, by_key, last, wrong, unknown = (
        distill(settings.environment, "logs", *arguments)
        for arguments in (
            (pipeline, "TRAIN T"),
            (pipeline, teacher.key[:9], "-f"),
            (pipeline, "--tail", "2", "--json"),
            (pipeline, "train teachr"),
            ("nothing-1234",),
        )
    )

    assert of_stage.stdout == by_key.stdout
    assert of_stage.stdout.count("epoch ") == 2
    assert all("  train teacher" in line for line in of_stage.stdout.splitlines())
    facts = [json.loads(line) for line in last.stdout.splitlines()]
    assert [each["message"] for each in facts] == [line.message for line in told[-2:]]
    assert facts[1]["stages"][0]["title"] == "report"
    assert (wrong.returncode, unknown.returncode) == (2, 2)
    assert "did you mean 'train teacher'?" in wrong.stderr
    assert "no pipeline 'nothing-1234'" in unknown.stderr


@pytest.mark.usefixtures("worker")
def test_a_log_expires_with_its_pipeline(
    settings: Settings, client: PipelineClient, logs: PipelineLogs, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec()).id
    lines_of(client, logs, pipeline)
    broker: Any = connect(settings)
    broker.expire(f"distill:logs:{pipeline}", 5)

    client.cancel(client.submit(make_spec()).id)
    client._ledger.touch(pipeline)

    log, state = (broker.ttl(f"distill:{what}:{pipeline}") for what in ("logs", "pipeline"))
    assert abs(log - state) <= 1
    assert settings.history_seconds - 5 < log <= settings.history_seconds


def test_the_oldest_lines_go_first_and_long_ones_lose_their_middle(settings: Settings, logs: PipelineLogs) -> None:
    line = LogLine(time=0.0, level="INFO", worker="w", stages=("abcdef12",), message="")
    many = [line.model_copy(update={"message": str(number)}) for number in range(KEPT_LINES + 1_000)]

    logs.write("many", many)
    logs.note("long", "w", (), "first" + "x" * 9_000 + "last\ud800")

    kept = [int(each.message) for each in logs.read("many")]
    assert KEPT_LINES <= len(kept) < KEPT_LINES + 200
    assert kept == list(range(kept[0], KEPT_LINES + 1_000))
    (message,) = (each.message for each in logs.read("long"))
    assert (message[:5], message[-10:]) == ("first", "last\\ud800")
    assert len(message) < LONGEST_MESSAGE + 100


def test_a_follower_outlives_a_broker_that_is_away(logs: PipelineLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    logs.note("p", "w", (), "said")
    answers = iter([BrokerUnavailable("away"), BrokerUnavailable("away")])

    def finished() -> bool:
        if error := next(answers, None):
            raise error
        return True

    monkeypatch.setattr("distill_queue.shared.ledger.logs.LAST_WORD_SECONDS", 0.1)

    assert [line.message for line in logs.follow("p", finished)] == ["said"]


def test_a_broker_that_is_away_holds_up_nobody_and_what_is_left_out_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    monkeypatch.setattr(scribe_module, "WAITING_LINES", 10)
    monkeypatch.setattr(scribe_module, "WRITE_SECONDS", 0.05)
    settings = Settings(store=tmp_path, broker_url=f"redis://127.0.0.1:{free_port()}/0")
    hasty = unchecked_client(settings, retries=0)
    logs, speaker = PipelineLogs(hasty, 1_000), logging.getLogger("speaker")
    with LogCapture(logs, "p", "w", ("k" * 64,)):
        started = time.monotonic()
        for number in range(30):
            speaker.error("line %d", number)
        took = time.monotonic() - started
        with LocalStack(settings, workers=0, server_folder=tmp_path / "server"):
            wait_until(lambda: len(list(logs.read("p"))) == 11, "they are written once it is there")
            first, *others = logs.read("p")
            hasty.close()

    assert took < 2.0
    assert first.message.startswith("… 20 lines are left out")
    assert [line.message for line in others] == [f"line {number}" for number in range(20, 30)]


def test_who_says_nothing_needs_no_thread(logs: PipelineLogs) -> None:
    with LogCapture(logs, "p-1", "worker", ()) as capture:
        silent = {thread.name for thread in threading.enumerate()}
        capture.note("something")
        talking = {thread.name for thread in threading.enumerate()}

    assert "log-capture" not in silent
    assert "log-capture" in talking
    assert [line.message for line in logs.read("p-1")] == ["something"]


def test_code_that_logs_to_what_it_prints_to_does_not_go_round_in_circles(logs: PipelineLogs) -> None:
    root = logging.getLogger()
    with LogCapture(logs, "p", "w", ()):
        circular = logging.StreamHandler(sys.stderr)
        root.addHandler(circular)
        try:
            root.error("once")
        finally:
            root.removeHandler(circular)

    assert [line.message for line in logs.read("p")] == ["once", "once"]
