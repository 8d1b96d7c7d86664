"""The commands beside a broker without workers: what they refuse, and what is left when they do."""

from __future__ import annotations

import errno
import io
import os
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from distill_queue.scheduler.client.client import Pipeline, PipelineClient
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.errors import BrokerUnavailable, InvalidInput, InvalidSettings, InvalidSpec, UnknownPipeline
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore

MakeSpec = Callable[..., PipelineSpec]
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def client(settings: Settings) -> PipelineClient:
    """A client of an empty queue that no worker serves."""
    return PipelineClient(settings)


def failed(client: PipelineClient, spec: PipelineSpec) -> str:
    """A pipeline whose data could not be had."""
    pipeline = client.submit(spec)
    client._ledger.fail(pipeline.id, pipeline.status.plan.trunk[0].key, "prepare digits: no", "w")
    return pipeline.id


def kept(settings: Settings) -> list[str]:
    """Ids of the pipelines that 'recover' would start."""
    return [path.stem for path in settings.folder.glob("pipelines/*")]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_pipeline_that_cannot_be_sent_does_not_wait_for_ever(
    settings: Settings,
    client: PipelineClient,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("celery.canvas._chain.apply_async", refuse)

    with pytest.raises(error):
        client.submit(make_spec())

    assert [status.state for status in client.pipelines()] == ["cancelled"]
    assert kept(settings) == []


def test_results_of_what_has_none_say_which_why_and_what_to_do(
    command: Command, client: PipelineClient, make_spec: MakeSpec
) -> None:
    bad, cancelled = failed(client, make_spec()), client.submit(make_spec()).id
    client.cancel(cancelled)

    for name in ("results", "report", "compare", "watch"):
        code, _, said = command(name, bad)
        assert code == 1
        assert said == (
            f"error: {bad} failed: prepare digits: no: see 'distill logs {bad}', then 'distill retry {bad}'\n"
        )
        assert command(name, cancelled)[2] == (
            f"error: {cancelled} was cancelled: 'distill retry {cancelled}' submits it again\n"
        )


def test_what_is_over_is_not_cancelled_again(command: Command, client: PipelineClient, make_spec: MakeSpec) -> None:
    over, waiting = failed(client, make_spec()), client.submit(make_spec()).id

    assert command("cancel", over, waiting) == (0, f"{over} is finished already\nCancelled {waiting}\n", "")
    assert command("cancel", waiting) == (0, f"{waiting} is cancelled already\n", "")


@pytest.mark.parametrize("name", ["cancel", "retry", "watch"])
def test_nothing_is_done_where_one_of_several_ids_is_wrong(
    command: Command, client: PipelineClient, make_spec: MakeSpec, name: str
) -> None:
    pipeline = client.submit(make_spec()).id

    code, printed, said = command(name, pipeline, "nobody-1")

    assert (code, printed) == (2, "")
    assert said.startswith("error: no pipeline 'nobody-1' at the broker")
    assert [(each.id, each.state) for each in client.pipelines()] == [(pipeline, "waiting")]


def test_an_id_that_is_given_twice_is_tried_again_once(
    command: Command, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = failed(client, make_spec())

    code, printed, _ = command("retry", pipeline, pipeline)

    assert code == 0
    assert set(client.ids()) == {pipeline, printed.strip()}


def test_lines_about_several_pipelines_say_of_which_one_they_are(
    command: Command, client: PipelineClient, make_spec: MakeSpec
) -> None:
    first, second = (failed(client, make_spec()) for _ in range(2))

    _, printed, _ = command("watch", first, second)

    heads = [line for line in printed.splitlines() if line in (first, second)]
    assert heads == [first, second]
    assert printed.startswith(f"{first}\n")


def test_a_pipeline_that_only_the_store_knows_is_cancelled(
    command: Command, settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipeline = client.submit(make_spec()).id
    connect(settings).delete(f"distill:pipeline:{pipeline}")

    assert command("cancel", pipeline) == (0, f"Cancelled {pipeline}\n", "")
    assert kept(settings) == []


def test_an_empty_queue_says_how_to_begin(command: Command) -> None:
    assert command("status") == (0, "no pipelines yet: distill submit SPEC\n", "")


@pytest.fixture
def old_page(settings: Settings) -> str:
    """The id of a pipeline that has left only its page."""
    path = FolderStore(settings.folder).report("old-1")
    path.parent.mkdir(parents=True)
    path.write_text("<!doctype html>")
    return "old-1"


def test_a_report_goes_through_a_link_and_into_a_pipe(command: Command, old_page: str, tmp_path: Path) -> None:
    target, link, pipe = (tmp_path / name for name in ("target.html", "link", "pipe"))
    target.write_text("an old one")
    link.symlink_to(target)
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()

    codes = [command("report", old_page, "--output", path)[0] for path in (link, pipe)]
    reader.join(10)

    assert codes == [0, 0]
    assert (link.is_symlink(), target.read_text()) == (True, "<!doctype html>")
    assert (pipe.is_fifo(), read) == (True, ["<!doctype html>"])


def test_a_report_replaces_no_other_file_and_makes_no_folder(command: Command, old_page: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    (tmp_path / "page.html").symlink_to(tmp_path / "thesis.docx")

    refused = [command("report", old_page, "--output", tmp_path / name) for name in ("thesis.docx", "page.html")]
    nowhere = command("report", old_page, "--output", tmp_path / "none" / "x.html")

    assert [code for code, _, _ in refused] == [2, 2]
    assert refused[0][2] == (
        f"error: --output: {tmp_path / 'thesis.docx'}: is there already, and is no .html: name another file\n"
    )
    assert (tmp_path / "thesis.docx").read_text() == "years of work"
    assert nowhere == (2, "", f"error: --output: {tmp_path / 'none'}: no such folder\n")
    assert not (tmp_path / "none").exists()


def test_python_takes_pipelines_for_their_ids(client: PipelineClient, make_spec: MakeSpec) -> None:
    pipeline = client.submit(make_spec())

    assert client.pipeline(pipeline) == pipeline
    assert client.status(pipeline).id == client.status(pipeline.id).id == pipeline.id
    client.cancel(pipeline)
    assert isinstance(client.retry(pipeline), Pipeline)
    for one in (pipeline, pipeline.id):
        with pytest.raises(Exception, match="was cancelled: 'distill retry"):
            client.compare(one)


def test_a_mistake_in_python_is_one_of_our_errors(client: PipelineClient, write_spec: Callable[..., Path]) -> None:
    changed = PipelineSpec.load(str(write_spec()), ["name=changed"])

    assert changed.name == "changed"
    for nonsense in (3, None):
        with pytest.raises(InvalidSpec, match="a mapping, or the path of a file, not"):
            client.submit(nonsense)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="unknown order 'accurate'; did you mean 'accuracy'"):
        client.compare([], order="accurate")  # type: ignore[arg-type]
    with pytest.raises(UnknownPipeline):
        client.pipeline(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidSettings, match="DISTILL_BROKER_URL: unknown scheme: use one of redis"):
        Settings(broker_url="http://x")


class Full(io.StringIO):
    """An output that takes nothing any more."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("arguments", [("status",), ("schema",), ("--help",), ("datasets",)])
def test_a_full_disk_behind_the_output_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())

    code, _, said = command(*arguments)

    assert (code, said) == (1, "error: the output cannot be written: No space left on device\n")


def test_a_terminal_of_few_characters_gets_what_it_can_show(
    command: Command, client: PipelineClient, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, output = client.submit(make_spec()).id, io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, encoding="ascii"))

    code, _, said = command("status", pipeline)

    assert (code, said) == (0, "")
    assert b"train teacher" in output.getvalue()


def test_a_file_that_only_its_user_may_read_is_given_to_all_who_may_read_the_store(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.npz"
    np.savez(labels, logits=np.eye(10, dtype=np.float32) * 9)
    labels.chmod(0o600)
    before = os.umask(0o002)
    try:
        client.submit(make_spec(teacher={"soft_labels": str(labels)}))
    finally:
        os.umask(before)

    (copy,) = settings.folder.glob("artifacts/label_file/*/*/labels.npz")

    assert stat.S_IMODE(copy.stat().st_mode) == 0o664


def test_the_doctor_ends_with_3_where_broker_or_store_do_not_work(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    well, _, _ = command("doctor")
    monkeypatch.setenv("DISTILL_STORE", "/proc/nowhere")
    no_store, _, _ = command("doctor")
    monkeypatch.delenv("DISTILL_STORE")
    monkeypatch.setenv("DISTILL_BROKER_URL", "redis://127.0.0.1:1/0")
    no_broker, _, _ = command("doctor")

    assert (well, no_store, no_broker) == (0, 3, 3)


def test_the_doctor_sees_that_a_worker_here_has_another_store(settings: Settings, tmp_path: Path) -> None:
    registry = WorkerRegistry(connect(settings))
    registry.enter(WorkerEntry.of_this_process("same", ("any",), settings.anywhere.store), 60, "a")
    registry.enter(WorkerEntry.of_this_process("other", ("any",), str(tmp_path / "elsewhere")), 60, "a")
    far = WorkerEntry.of_this_process("far", ("any",), "/mnt/store").model_copy(update={"host": "far"})
    registry.enter(far, 60, "a")

    found = {finding.subject: finding for finding in examine(settings)}

    assert (found["same"].state, found["far"].state, found["other"].state) == ("good", "good", "warning")
    assert f"its store is {tmp_path / 'elsewhere'}" in found["other"].detail


def test_the_doctor_counts_no_cancelled_pipelines(
    settings: Settings, client: PipelineClient, make_spec: MakeSpec
) -> None:
    pipelines = [client.submit(make_spec()) for _ in range(4)]
    pipelines[1].cancel()
    broker: Any = connect(settings)
    broker.hset(f"distill:pipeline:{pipelines[2]}", "plan", "{}")
    broker.zadd("distill:unfinished", {"expired": 1})

    found = [finding.detail for finding in examine(settings) if finding.subject == "queues"]

    assert found == ["no worker serves the queue 'any' (pipelines that wait for it: 2)"]


def test_a_listener_that_is_no_broker_is_given_up_soon(settings: Settings) -> None:
    hasty = settings.model_copy(update={"visibility_timeout_seconds": 18.0})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="no broker at"):
            PipelineClient(hasty.model_copy(update={"broker_url": url}))

    assert time.monotonic() - began < 2.5 * hasty.answer_seconds


def test_commands_are_tried_again_more_often_than_the_first(settings: Settings) -> None:
    client: Any = connect(settings)
    assert client.get_connection_kwargs()["retry"].get_retries() == 3
    assert isinstance(client, redis.Redis)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("labels", "info", "0"), "error: 0: no folder of a cache; of a key give at least 4 characters\n"),
        (("store", "verify", "0"), "error: 0: give at least 4 characters of a key\n"),
        (("worker", "--name", ""), "error: --name: no valid name: it is empty\n"),
        (
            ("worker", "--name", "my worker"),
            "error: --name: no valid name: ' ' is none of letters (A to Z, a to z), digits, '_', '.', '-' and '%'\n",
        ),
    ],
)
def test_what_says_too_little_is_refused(command: Command, arguments: tuple[str, ...], message: str) -> None:
    assert command(*arguments) == (2, "", message)


def test_the_version_is_said(command: Command) -> None:
    assert command("--version") == (0, "distill 0.1.0\n", "")


@pytest.mark.parametrize("arguments", [("compare", "x", "--sort", "best"), ("submit", "x", "--priority", "best")])
def test_an_option_is_refused_in_plain_words(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, said = command(*arguments)

    assert code == 2
    assert "'best' is not one of" in said
    assert "Value error" not in said
