"""Downloads that fail, of a real server: each in its own words, and tried again only where that helps."""

from __future__ import annotations

import errno
import gzip
import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.error import URLError

import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded
from torchvision.datasets import MNIST

from distill_queue.shared.errors import DistillError, StageFailed, Unavailable
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data import load as data
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.downloads import downloading
from distill_queue.worker.machine.runtime import Runtime

IMAGES = gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 28, 0, 0, 0, 28]) + bytes(2 * 784))
LABELS = gzip.compress(bytes([0, 0, 8, 1, 0, 0, 0, 2, 3, 5]))
FILES = {
    f"{split}-{what}-ubyte.gz": content
    for split in ("train", "t10k")
    for what, content in (("images-idx3", IMAGES), ("labels-idx1", LABELS))
}


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int, bytes | None], None]]:
    """A server of MNIST's files; sets how it answers: with a status, and another content if one is given."""
    answer: tuple[int, bytes | None] = 200, None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content = answer
            content = FILES[self.path.rpartition("/")[2]] if content is None else content
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815 (the base class says what it is)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    sums = [(name, hashlib.md5(content, usedforsecurity=False).hexdigest()) for name, content in FILES.items()]
    monkeypatch.setattr(MNIST, "resources", sums)

    def set_answer(status: int, content: bytes | None = None) -> None:
        nonlocal answer
        answer = status, content

    yield set_answer
    server.shutdown()
    server.server_close()
    thread.join()


def read(folder: Path) -> Arrays:
    return data.load(NamedDatasetSpec(name="mnist"), Reading(Runtime(torch.device("cpu"), downloads=folder)))


def refused(folder: Path, kind: type[DistillError]) -> str:
    with pytest.raises(kind) as raised:
        read(folder)
    assert type(raised.value) is kind
    return str(raised.value)


@pytest.mark.usefixtures("mirror")
def test_a_data_set_is_downloaded(tmp_path: Path) -> None:
    assert read(tmp_path).train_targets.tolist() == [3, 5]


@pytest.mark.usefixtures("mirror")
def test_files_that_were_put_there_by_hand_need_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "MNIST" / "raw" / name).write_bytes(content)

    assert read(tmp_path).test_targets.tolist() == [3, 5]


@pytest.mark.parametrize("packed", [True, False])
def test_files_with_other_checksums_may_be_put_there_as_they_are(tmp_path: Path, packed: bool) -> None:
    (tmp_path / "MNIST").mkdir()
    for name, content in FILES.items():
        unpacked = gzip.decompress(content)
        path = tmp_path / "MNIST" / (name if packed else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(unpacked, compresslevel=1) if packed else unpacked)

    assert read(tmp_path).train_targets.tolist() == [3, 5]
    assert not (tmp_path / "MNIST" / "raw").exists()


@pytest.mark.parametrize("name", ["MNIST", "mnist"])
def test_files_in_a_folder_of_data_are_read_before_any_download(tmp_path: Path, name: str) -> None:
    (folder := tmp_path / "data" / name).mkdir(parents=True)
    for file, content in FILES.items():
        (folder / file).write_bytes(content)
    runtime = Runtime(torch.device("cpu"), downloads=tmp_path / "downloads", data=(tmp_path / "data",))

    assert data.load(NamedDatasetSpec(name="mnist"), Reading(runtime)).train_targets.tolist() == [3, 5]
    assert not (tmp_path / "downloads").exists()


def test_a_file_that_was_put_there_and_is_too_short_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    for name, content in FILES.items():
        (tmp_path / "MNIST" / name).write_bytes(gzip.compress(gzip.decompress(content)[:-1]))

    said = refused(tmp_path, StageFailed)

    assert f"a file in {tmp_path}/MNIST is damaged (train-images-idx3-ubyte.gz should have " in said


@pytest.mark.usefixtures("mirror")
def test_without_a_network_it_is_said_from_the_first_try_what_is_missing_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{closed.getsockname()[1]}/"])

    said = refused(tmp_path, Unavailable)

    assert said.startswith(f"MNIST is not in {tmp_path}/MNIST/raw, and the download failed: ")
    assert "Connection refused" in said
    assert "without a network, put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz" in said


def test_a_host_whose_name_is_not_resolved_is_asked_again(tmp_path: Path) -> None:
    error = URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    said = f"the data is not in {tmp_path}, and the download failed: .*: by hand"
    with pytest.raises(Unavailable, match=said), downloading("the data", tmp_path, "by hand"):
        raise error


def test_a_server_that_is_busy_is_asked_again_and_one_that_has_no_such_file_is_not(
    tmp_path: Path, mirror: Callable[[int], None]
) -> None:
    mirror(503)
    assert "HTTP Error 503" in refused(tmp_path, Unavailable)
    mirror(404)
    assert "HTTP Error 404" in refused(tmp_path, StageFailed)


def test_a_file_that_arrives_damaged_is_downloaded_again(
    tmp_path: Path, mirror: Callable[[int, bytes | None], None]
) -> None:
    mirror(200, b"half of a fi")
    assert refused(tmp_path, Unavailable).startswith("MNIST arrived damaged, with another checksum")

    mirror(200, None)
    assert len(read(tmp_path).train_inputs) == 2


@pytest.mark.usefixtures("mirror")
def test_a_file_that_lies_there_damaged_is_named_with_what_to_do(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"\0\0")

    assert f"a file in {tmp_path}/MNIST/raw is damaged" in refused(tmp_path, StageFailed)


@pytest.mark.parametrize("error", [SoftTimeLimitExceeded(), MemoryError(), RuntimeError("CUDA out of memory")])
def test_a_time_limit_and_memory_that_runs_out_say_nothing_of_a_file(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, downloading("the data", tmp_path, "by hand"):
        raise error

    assert raised.value is error


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, Unavailable), (errno.EACCES, StageFailed)])
def test_what_the_disk_says_is_no_failed_download(tmp_path: Path, number: int, kind: type[DistillError]) -> None:
    said = f"the data: {tmp_path}: {os.strerror(number)}"
    with pytest.raises(kind, match=said), downloading("the data", tmp_path, "by hand"):
        raise OSError(number, os.strerror(number))
