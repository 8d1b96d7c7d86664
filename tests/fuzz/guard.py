"""The guard: what an input may cost, where it may write, and how it may fail."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill_queue.shared.errors import DistillError

#: What an input may take at the most: seconds of the processor, and memory.
MOST_SECONDS = 1.0
MOST_BYTES = 200_000_000
#: Memory beyond which the system gives no more, and seconds after which an input is taken to wait for ever.
ROOM_BYTES = 1_500_000_000
HANGS_SECONDS = 30.0

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: Of the events that Python tells of, those that change a file: the places of the paths in their arguments, and of the
#: descriptors that these are relative to.
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "shutil.rmtree": ((0, 1),),
}
_NEVER = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "pickle.find_class")


class Escaped(BaseException):
    """Something outside of the scratch folder would have been changed, or a program started."""


class Hangs(BaseException):
    """An input takes for ever."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with how an input was taken."""

    #: The kind of fault, and where it was raised: the same for inputs that find the same.
    kind: str
    detail: str


class Guard:
    """Runs one input after the other in this process."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch.resolve()
        self._watching = False
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, _hang)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        room = pages * resource.getpagesize() + ROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (room, room))

    def run(self, feed: Callable[[], None]) -> Finding | None:
        """Have an input taken; what is wrong with it, if anything is."""
        finding, seconds, size = self._measured(feed)
        if finding or (seconds <= MOST_SECONDS and size <= MOST_BYTES):
            return finding
        # Once more: on a machine that has much else to do, a first look may be at the machine.
        gc.collect()
        finding, again, size = self._measured(feed)
        if finding or (min(seconds, again) <= MOST_SECONDS and size <= MOST_BYTES):
            return finding
        if size > MOST_BYTES:
            return Finding("memory", f"{size / 1e6:,.0f} MB more than before")
        return Finding("time", f"{min(seconds, again):.1f} s of the processor")

    def _measured(self, feed: Callable[[], None]) -> tuple[Finding | None, float, int]:
        _forget_peak()
        before, began, finding = _resident("VmRSS"), time.process_time(), None
        signal.setitimer(signal.ITIMER_REAL, HANGS_SECONDS)
        self._watching = True
        try:
            feed()
        except DistillError as error:
            finding = None if str(error).strip() else Finding(f"empty {type(error).__name__}", _told(error))
        except (Exception, Escaped, Hangs, RecursionError) as error:
            finding = Finding(f"{type(error).__name__} in {_place(error)}", _told(error))
        finally:
            self._watching = False
            signal.setitimer(signal.ITIMER_REAL, 0.0)
        return finding, time.process_time() - began, max(0, _resident("VmHWM") - before)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._watching:
            return
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, int) and flags and flags & _WRITING:
                self._require_inside(event, path, None)
        elif event in _CHANGES:
            for place, relative in _CHANGES[event]:
                folder = arguments[relative] if relative is not None and len(arguments) > relative else None
                self._require_inside(event, arguments[place], folder)
        elif event in _NEVER:
            raise Escaped(f"{event} {str(arguments)[:200]}")

    def _require_inside(self, event: str, path: Any, folder: int | None) -> None:
        if isinstance(path, int):
            return
        named = Path(os.fsdecode(path))
        if folder not in (None, -1):
            named = Path(f"/proc/self/fd/{folder}").readlink() / named
        # What is made, removed or renamed is what lies in its folder, be it a link; what is opened, where that leads.
        real = named.resolve() if event in ("open", "os.truncate") else named.parent.resolve() / named.name
        if real != Path(os.devnull) and not real.is_relative_to(self._scratch):
            raise Escaped(f"{event} {real}")


def _hang(*_: object) -> None:
    raise Hangs(f"{HANGS_SECONDS:.0f} s")


def _place(error: BaseException) -> str:
    """The last line of our own that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_own(frame.filename)] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def _is_own(name: str) -> bool:
    """Whether a file is one of the code that is tried."""
    return "distill_queue" in Path(name).parts


def _told(error: BaseException) -> str:
    lines = traceback.format_exception(error)
    return "".join(lines)[-3_000:].encode(errors="backslashreplace").decode()


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _resident(name: str) -> int:
    """Bytes of memory, now (`VmRSS`) or at the peak (`VmHWM`)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return 0
