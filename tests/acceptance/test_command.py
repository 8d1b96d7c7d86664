"""The `distill` command as people run it, in processes of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill_queue.scheduler.cli.main import main
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.report.sentences import headlines
from tests.acceptance.conftest import DISTILL, distill, free_port

WaitUntil = Callable[[Callable[[], Any], str], Any]


@pytest.fixture
def here(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command in this process to its exit code: what it refuses at once needs no process of its own."""
    for name in os.environ.keys() - environment.keys():
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("distill_queue.scheduler.cli.main.signal.signal", lambda *_: None)

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["distill", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def processes_of(environment: dict[str, str]) -> list[psutil.Process]:
    """Living processes that were started with this test's store."""

    def uses_store(process: psutil.Process) -> bool:
        try:
            return process.environ().get("DISTILL_STORE") == environment["DISTILL_STORE"]
        except psutil.Error:
            return False

    return [process for process in psutil.process_iter() if uses_store(process)]


def test_run_computes_once_then_finds_all_and_leaves_no_process(
    environment: dict[str, str], write_spec: Callable[..., Path]
) -> None:
    spec = write_spec()

    first, second = distill(environment, "run", spec), distill(environment, "run", spec)

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    assert "  control" in first.stdout
    results = [PipelineResults.model_validate_json(Path(path).read_text()) for path in map(report_of, (first, second))]
    assert {stage.outcome for stage in results[0].stages} == {"computed"}
    assert {stage.outcome for stage in results[1].stages} == {"found"}
    assert results[0].scores == results[1].scores
    assert processes_of(environment) == []
    page = Path(environment["DISTILL_STORE"]) / "reports" / f"{results[1].id}.html"
    assert f"Report: {page}\n" in second.stdout
    assert page.read_text().startswith("<!doctype html>")
    again = distill(environment | {"DISTILL_BROKER_URL": unserved()}, "report", results[1].id)
    assert again.stdout == f"{page}\n"
    assert "as it was written at the pipeline's end: no broker at" in again.stderr


def test_run_ends_with_what_the_teacher_brought_and_where_to_look_next(
    environment: dict[str, str], write_spec: Callable[..., Path]
) -> None:
    run = distill(environment, "run", write_spec(budget={"bytes": 1}))

    results = PipelineResults.model_validate_json(Path(report_of(run)).read_text())
    *_, page, said, budget, following = run.stdout.splitlines()
    assert page == f"Report: {Path(environment['DISTILL_STORE']) / 'reports' / results.id}.html"
    assert (said, budget) == headlines(results.scores)
    assert budget.startswith("Budget (at most 1 bytes): none of 1 fits; the nearest is small in torch, ")
    assert re.search(r"over the control; one seed: not told apart from chance\.$", said)
    command = f"distill results {results.id}"
    assert f"'{command}'" in following
    again = distill(environment | {"DISTILL_BROKER_URL": unserved()}, *command.split()[1:], "--json")
    assert PipelineResults.model_validate_json(again.stdout) == results
    tables = distill(environment | {"DISTILL_BROKER_URL": unserved()}, *command.split()[1:])
    assert tables.stdout.splitlines()[-1] == budget
    unknown = distill(environment | {"DISTILL_BROKER_URL": unserved()}, "results", "tiny-0")
    assert unknown.returncode == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_what_it_started(
    environment: dict[str, str], write_spec: Callable[..., Path], wait_until: WaitUntil, number: signal.Signals
) -> None:
    training = {"epochs": 100_000}
    spec = write_spec(teacher={"model": {"name": "mlp", "hidden": [32]}, "training": training})
    run = subprocess.Popen(
        [*DISTILL, "run", str(spec)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    log = Path(environment["DISTILL_STORE"]) / "logs" / "worker-1.log"
    wait_until(lambda: log.exists() and "distill.train_teacher" in log.read_text(), "the teacher is trained")

    run.send_signal(number)
    _, errors = run.communicate(timeout=60)

    assert run.returncode == 128 + number
    assert "Traceback" not in errors
    assert processes_of(environment) == []
    assert not list(Path(environment["DISTILL_STORE"]).glob("pipelines/*")), "'distill recover' would start it"


def test_a_failed_pipeline_ends_run_with_its_error(
    environment: dict[str, str], write_spec: Callable[..., Path]
) -> None:
    run = distill(environment, "run", write_spec(dataset={"name": "nowhere.data:load"}))

    assert run.returncode == 1
    assert re.match(r"error: tiny-\w+ failed: prepare nowhere\.data:load: ", run.stderr)
    assert "does not import 'nowhere'" in run.stderr
    assert run.stderr.endswith(f": see the logs in {Path(environment['DISTILL_STORE']) / 'logs'}\n")
    assert not list(Path(environment["DISTILL_STORE"]).glob("pipelines/*"))
    assert processes_of(environment) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studnets": []}, "studnets: unknown key; did you mean 'students'?"),
        ({"students": []}, "students: at least one is needed"),
        ({"dataset": {"name": "mnist5k"}}, "unknown data set 'mnist5k'; did you mean 'mnist_5k'?"),
        ({"teacher": {"model": {"name": "mpl"}}}, "unknown model 'mpl'; did you mean 'mlp'?"),
        ({"teacher": {"model": {"name": "cnn"}, "checkpoint": "absent.safetensors"}}, "no such file"),
    ],
)
@pytest.mark.parametrize("command", ["run", "submit", "plan"])
def test_a_bad_spec_is_one_message_and_exit_code_2(
    here: Callable[..., int],
    write_spec: Callable[..., Path],
    changes: dict[str, Any],
    message: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = write_spec(**changes)

    code = here(command, spec)

    printed = capsys.readouterr()
    assert code == 2
    assert printed.err.startswith(f"error: {spec}:")
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_an_unreachable_broker_is_named_without_its_password(
    environment: dict[str, str], write_spec: Callable[..., Path]
) -> None:
    environment["DISTILL_BROKER_URL"] = f"redis://user:secret@127.0.0.1:{free_port()}/0"

    done = distill(environment, "submit", write_spec())

    assert done.returncode == 3
    assert done.stderr.startswith("error: no broker at redis://127.0.0.1:")
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_store_that_cannot_be_written_is_said_before_anything_starts(
    environment: dict[str, str], write_spec: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    environment["DISTILL_STORE"] = str(tmp_path / "file" / "store")

    done = distill(environment, "run", write_spec())

    assert done.returncode == 3
    assert done.stderr.startswith("error: store: ")
    assert "Traceback" not in done.stderr


def test_a_bad_setting_is_named(environment: dict[str, str], write_spec: Callable[..., Path]) -> None:
    environment["DISTILL_BROKER_URL"] = "amqp://127.0.0.1"

    done = distill(environment, "submit", write_spec())

    assert done.returncode == 2
    assert done.stderr.startswith("error: DISTILL_BROKER_URL: unknown scheme: use one of redis, ")


def test_up_serves_submit_status_watch_and_flower(
    environment: dict[str, str], write_spec: Callable[..., Path], wait_until: WaitUntil, tmp_path: Path
) -> None:
    flower_port = free_port()
    environment["DISTILL_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}/0"
    up = subprocess.Popen(
        [*DISTILL, "up", "--flower-port", str(flower_port)], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert up.stdout is not None
        assert "Broker" in up.stdout.readline()

        submitted = distill(environment, "submit", write_spec())
        pipeline = submitted.stdout.strip()
        watched = distill(environment, "watch", pipeline)
        listed = distill(environment, "status")
        shown = distill(environment, "status", pipeline)
        written = distill(environment, "results", pipeline, "--json")
        reported = distill(environment, "report", pipeline, "--output", tmp_path / "report.html")
        refused = distill(environment, "report", pipeline, "--output", tmp_path)
        unknown = distill(environment, "report", "../nobody")
        page = wait_until(lambda: answer(f"http://127.0.0.1:{flower_port}/tasks"), "Flower answers")
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=60)

    assert submitted.returncode == watched.returncode == written.returncode == 0
    assert "  control" in watched.stdout
    assert pipeline in listed.stdout
    assert "train teacher" in shown.stdout
    assert json.loads(written.stdout)["id"] == pipeline
    assert (reported.stdout, reported.stderr) == (f"{tmp_path / 'report.html'}\n", "")
    assert pipeline in (tmp_path / "report.html").read_text()
    assert refused.stderr == f"error: --output: {tmp_path}: Is a directory\n"
    assert unknown.stderr == "error: '../nobody' is no pipeline's id\n"
    assert "Flower" in page
    assert processes_of(environment) == []


def test_plan_and_schema_need_no_broker(environment: dict[str, str], write_spec: Callable[..., Path]) -> None:
    planned = distill(environment, "plan", write_spec())
    schema = distill(environment, "schema")

    assert planned.returncode == 0
    assert "train_teacher" in planned.stdout
    assert "students" in json.loads(schema.stdout)["required"]


def report_of(run: subprocess.CompletedProcess[str]) -> str:
    """The path of the results that a run has written."""
    return next(line.removeprefix("Results: ") for line in run.stdout.splitlines() if line.startswith("Results: "))


def unserved() -> str:
    """The address of a broker that is not there."""
    return f"redis://127.0.0.1:{free_port()}/0"


def answer(address: str) -> str:
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return str(response.read().decode())
    except OSError:
        return ""
