"""Packages of the user's own: how they are imported, and whose fault is what they raise."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from billiard.exceptions import SoftTimeLimitExceeded
from celery.exceptions import WorkerShutdown
from PIL import Image

from distill_queue.shared.errors import InvalidSpec, Unavailable
from distill_queue.worker.machine import plugins
from tests.unit.worker.conftest import (
    RANDOM,
)


@pytest.mark.parametrize("error", ["NameError", "RuntimeError", "SyntaxError"])
def test_a_package_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    (tmp_path / "broken.py").write_text("1 +" if error == "SyntaxError" else f"raise {error}('here')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidSpec, match=f"broken:data: {error}"):
        plugins.load("broken:data", ("broken",))
    monkeypatch.delitem(sys.modules, "broken", raising=False)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("no such column"), "mine:data: KeyError: 'no such column' (test_own_packages.py:"),
        (RuntimeError(), "mine:data: RuntimeError (test_own_packages.py:"),
        (ValueError("x" * 9000), "xxx … (more of it is in the log) (test_own_packages.py:"),
    ],
)
def test_a_mistake_is_told_in_a_few_words_and_logged_in_all(
    error: Exception, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidSpec) as raised, plugins.called("mine:data"):
        raise error

    assert said in str(raised.value)
    assert len(str(raised.value)) < 600
    assert str(error) in caplog.text


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("os:system", "does not import 'os'"),
        ("mine_too:data", "does not import 'mine_too'"),
        (".mine:data", "does not import ''"),
        ("..mine:data", "does not import ''"),
        ("mine.os:system", "mine.os"),
        ("mine..os:system", "mine"),
        ("mine:os.system", "has no attribute"),
        ("mine:os", "not callable"),
        ("mine:system", "comes from 'posix'"),
        ("mine:run", "comes from 'subprocess'"),
        ("mine:load", "comes from 'torch'"),
        ("mine:run_too", "comes from 'subprocess'"),
        ("mine:__class__", "comes from 'builtins'"),
        ("mine:__getattribute__", "comes from"),
        ("mine:", "mine:"),
    ],
)
def test_what_an_allowed_package_has_imported_is_not_to_be_called(
    mine: ModuleType, reference: str, message: str
) -> None:
    imported = {"os": os, "system": os.system, "run": subprocess.run, "load": torch.load}
    vars(mine).update(imported, run_too=partial(subprocess.run, shell=True))

    with pytest.raises(InvalidSpec, match=message):
        plugins.load(reference, ("mine",))


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes a real package `theirs`, whose module `data` has a callable `load` with a body that is given."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)

    def write(body: str) -> None:
        (folder / "data.py").write_text("def load(path=None):\n    " + body.replace("\n", "\n    "))

    yield write
    for name in ("theirs", "theirs.data"):
        sys.modules.pop(name, None)


def call_theirs(*given: Any) -> None:
    load = plugins.load("theirs.data:load", ("theirs",))
    with plugins.called("theirs.data:load"):
        load(*given)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no image", r"UnidentifiedImageError: cannot identify image file '.*/cat\.png' \(theirs/data\.py:3\)"),
        (None, r"OSError: image file is truncated \(\d+ bytes not processed\) in .*/cat\.jpg \(theirs/data\.py:3\)"),
    ],
)
def test_an_image_that_cannot_be_read_is_named_with_the_users_own_line(
    tmp_path: Path, theirs: Callable[[str], None], content: bytes | None, said: str
) -> None:
    path = tmp_path / ("cat.jpg" if content is None else "cat.png")
    if content is None:
        Image.fromarray(RANDOM.integers(0, 255, (99, 99, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()[:-2000]
    path.write_bytes(content)
    theirs("from PIL import Image\nwith Image.open(path) as image: return image.convert('RGB')")

    with pytest.raises(InvalidSpec, match=f"^theirs.data:load: {said}"):
        call_theirs(path)


def test_a_missing_file_is_named_with_the_users_own_line_and_not_numpys(theirs: Callable[[str], None]) -> None:
    theirs("import numpy\nreturn numpy.load('absent.npy')")

    with pytest.raises(InvalidSpec, match=r"No such file or directory: 'absent.npy' \(theirs/data.py:3\)"):
        call_theirs()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import sys\nsys.exit(3)", r"SystemExit: 3: code that a worker calls must not end its process"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--no'])", "SystemExit: 2: code that a worker calls"),
        ("import asyncio\nraise asyncio.CancelledError", "CancelledError"),
        ("class Own(BaseException): pass\nraise Own('no')", "Own: no"),
        ("raise DeprecationWarning('old')", "DeprecationWarning: old"),
        ("import csv\ncsv.get_dialect('no')", "Error: unknown dialect"),
        ("import zipfile, io\nzipfile.ZipFile(io.BytesIO(b'no'))", "BadZipFile: File is not a zip file"),
    ],
)
def test_whatever_the_users_code_raises_is_a_mistake_of_its_line(
    theirs: Callable[[str], None], body: str, said: str
) -> None:
    theirs(body)

    with pytest.raises(InvalidSpec, match=rf"^theirs.data:load: {said}.* \(theirs/data.py:[23]\)$"):
        call_theirs()


def test_a_module_that_ends_the_process_when_it_is_imported_is_refused(
    tmp_path: Path, theirs: Callable[[str], None]
) -> None:
    (tmp_path / "theirs" / "data.py").write_text("import sys\n\nsys.exit('no data here')\n")

    with pytest.raises(InvalidSpec, match=r"theirs.data:load: SystemExit: no data here.*\(theirs/data.py:3\)"):
        call_theirs()


def test_an_interrupt_is_the_users_where_no_terminal_can_send_one(theirs: Callable[[str], None]) -> None:
    theirs("raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        call_theirs()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(InvalidSpec, match="KeyboardInterrupt: code that a worker calls must not end its process"):
            call_theirs()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_end_that_celery_asks_for_is_not_the_users(theirs: Callable[[str], None]) -> None:
    theirs("from celery.exceptions import WorkerShutdown\nraise WorkerShutdown(0)")

    with pytest.raises(WorkerShutdown):
        call_theirs()


def test_a_time_limit_that_ends_the_users_code_is_no_mistake_of_it(theirs: Callable[[str], None]) -> None:
    theirs("from billiard.exceptions import SoftTimeLimitExceeded\nraise SoftTimeLimitExceeded")

    with pytest.raises(SoftTimeLimitExceeded):
        call_theirs()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.ECONNRESET])
def test_an_outage_in_the_users_code_is_tried_again(theirs: Callable[[str], None], number: int) -> None:
    theirs(f"raise OSError({number}, 'for now', 'images.zip')")

    with pytest.raises(Unavailable, match=r"theirs.data:load: .*'images.zip' \(theirs/data.py:2\)"):
        call_theirs()


def test_a_line_that_cannot_be_parsed_is_named(tmp_path: Path, theirs: Callable[[str], None]) -> None:
    (tmp_path / "theirs" / "data.py").write_text("import os\nx = = 1\n")

    with pytest.raises(InvalidSpec, match=r"SyntaxError: invalid syntax .*\(data.py:2\)$"):
        call_theirs()
