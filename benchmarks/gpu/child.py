"""Child: a section in a process of its own, so that it can fail, hang or be killed without the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Literal, NamedTuple

import torch

from benchmarks.gpu.section import Part, Section, Setting
from distill_queue.shared.line import first_line

#: With all modules that this process has loaded, as torch takes seconds to load; no card is in use here.
_FORK = multiprocessing.get_context("fork")


class Message(NamedTuple):
    """What a section's process says."""

    kind: Literal["part", "failed", "done"]
    value: Part = ""


def run(section: Section, setting: Setting, seconds: float) -> Iterator[Message]:
    """What a section yields within some seconds, then how it ended."""
    ours, theirs = _FORK.Pipe(duplex=False)
    process = _FORK.Process(target=_measure, args=(section, setting, theirs))
    process.start()
    theirs.close()
    deadline = time.monotonic() + seconds
    try:
        while True:
            if not ours.poll(max(0.0, deadline - time.monotonic())):
                yield Message("failed", f"not finished within {seconds:.0f} s")
                return
            try:
                message: Message = ours.recv()
            except EOFError:
                process.join()
                yield Message("failed", f"its process ended with exit code {process.exitcode}")
                return
            yield message
            if message.kind != "part":
                return
    finally:
        _end(process.pid)
        process.join()


def _measure(section: Section, setting: Setting, pipe: Connection) -> None:
    os.setsid()
    if setting.dry:
        torch.set_num_threads(1)
    last = Message("done")
    try:
        for part in section.measure(setting):
            pipe.send(Message("part", part))
    except Exception as error:
        traceback.print_exc()
        last = Message("failed", f"{type(error).__name__}: {first_line(error)}"[:500])
    pipe.send(last)


def _end(pid: int | None) -> None:
    """Kill a section's process and what it has started; its workers end with it."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
