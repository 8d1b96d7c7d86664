"""Files that a user names: pipes are read to their end; a pipe that never ends or is never fed is one message."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from distill_queue.scheduler.cli.report import _put
from distill_queue.shared.errors import InvalidInput, InvalidSettings, InvalidSpec
from distill_queue.shared.files import given_file
from distill_queue.shared.files.given_file import read_text, require_file
from distill_queue.shared.spec.pipeline import PipelineSpec


def fed(path: Path, *pieces: bytes) -> Thread:
    """A pipe at a path, and a thread that writes to it in pieces."""
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            for piece in pieces:
                pipe.write(piece)

    thread = Thread(target=write)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("/dev/zero", "larger than 1,000 bytes"),
        ("/proc/self/mem", "Input/output error"),
        ("folder", "Is a directory"),
        ("socket", "No such device or address"),
        ("huge", "larger than 1,000 bytes"),
        ("latin", r"not UTF-8 text \(byte 0\)"),
        ("a\0b", "no path of a file: it has a NUL"),
        ("x" * 10_000, "x…: File name too long"),
    ],
)
def test_what_is_no_text_of_a_file_is_one_short_message(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes(b"\xff")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1_000_000_000_000)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))

        with pytest.raises(InvalidInput, match=message) as raised:
            read_text(tmp_path / name, 1_000)

    assert len(str(raised.value)) < 300


def test_a_pipe_is_read_to_its_end_whenever_its_pieces_come(tmp_path: Path) -> None:
    pieces = [b"name: tiny\r\n", b"\xc3", b"\xa9: " + b"x" * 200_000]
    writer = fed(tmp_path / "pipe", *pieces)

    text = read_text(tmp_path / "pipe", 1_000_000)

    writer.join()
    assert text == "name: tiny\n\u00e9: " + "x" * 200_000


def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(given_file, "WRITER_SECONDS", 0.05)

    with pytest.raises(InvalidInput, match="pipe: a pipe that nothing writes to"):
        read_text(tmp_path / "pipe", 1_000)


def test_a_pipe_whose_writer_says_nothing_more_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(given_file, "PIPE_SECONDS", 0.05)

    with (tmp_path / "pipe").open("r+b", buffering=0) as writer:
        writer.write(b"name: ")

        with pytest.raises(InvalidInput, match="did not end within"):
            read_text(tmp_path / "pipe", 1_000)


def test_a_pipe_that_never_ends_is_read_no_further_than_allowed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with (tmp_path / "pipe").open("r+b", buffering=0) as writer:
        writer.write(b" " * 2_000)

        with pytest.raises(InvalidInput, match="larger than 1,000"):
            read_text(tmp_path / "pipe", 1_000)


def test_a_spec_from_a_pipe_is_yaml_whose_paths_are_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_spec: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = write_spec(teacher={"soft_labels": "labels.npz"}).read_bytes()
    end, start = os.pipe()
    os.write(start, text)
    os.close(start)

    with pytest.raises(InvalidSpec, match=re.escape(f"no such file: {tmp_path}/labels.npz")):
        PipelineSpec.load(f"/dev/fd/{end}")

    os.close(end)


def test_paths_in_a_spec_that_is_the_standard_input_are_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_spec: Callable[..., Path]
) -> None:
    monkeypatch.chdir(tmp_path)

    path = write_spec(teacher={"soft_labels": "labels.npz"})

    with path.open() as file, pytest.raises(InvalidSpec, match=re.escape(f"no such file: {tmp_path}/labels.npz")):
        PipelineSpec.load(f"/dev/fd/{file.fileno()}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pipe", "a pipe, not a file"),
        ("/dev/zero", "a device, not a file"),
        ("folder", "a folder, not a file"),
        ("absent", "No such file"),
        ("a\0b", "it has a NUL"),
        ("huge", "larger than 1,000 bytes"),
    ],
)
def test_what_other_code_is_to_read_has_to_be_a_file(tmp_path: Path, name: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "huge").write_bytes(b" " * 1_001)

    with pytest.raises(InvalidInput, match=message):
        require_file(tmp_path / name, 1_000)


def test_a_page_goes_into_a_pipe_that_is_read_and_into_no_other(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidSettings, match="pipe: a pipe that nothing reads"):
        _put("page", tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    _put("page", tmp_path / "pipe")

    assert os.read(reader, 100) == b"page"
    os.close(reader)
