"""Hashing: files are read by threads, which tell how far they are, and end soon where that is not wanted any more."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock
from types import TracebackType
from typing import Self, TypeVar

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.files import NoFile, opened
from distill_queue.shared.files.given_file import shown

#: Nanoseconds for which a file must have lain unchanged if its hash is to be remembered: within a file system's
#: smallest step of time it may change again and look the same.
SETTLED_NS = 2_000_000_000
#: Files that are hashed at once: hashing leaves Python's lock, and reading waits for the disk.
THREADS = 8
#: What is handed to the threads before the first of it is done.
ITEMS_AHEAD = 1_000
#: Bytes of a file that are read in one go: between two goes a thread looks whether it is to end.
CHUNK_BYTES = 1 << 18
#: Seconds between two reports while a long file is read.
REPORT_SECONDS = 0.2

#: Size, nanoseconds of the last change of content and of anything, number of the file.
Facts = tuple[int, int, int, int]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Hashed:
    """How far the hashing of files is; as long as they are looked for, only how many are found."""

    files: int
    of_files: int
    size_bytes: int = 0
    of_bytes: int = 0

    @property
    def words(self) -> str:
        """The same in words."""
        if not self.of_bytes:
            return f"{self.of_files:,} files found"
        size, of_size = (f"{each / 1e6:,.0f}" for each in (self.size_bytes, self.of_bytes))
        return f"{self.files:,} of {self.of_files:,} files, {size} of {of_size} MB"

    @property
    def share(self) -> float | None:
        """The part of the bytes that is read, from 0 to 1; None where that cannot be told yet."""
        return min(1.0, self.size_bytes / self.of_bytes) if self.of_bytes else None


#: Called again and again while files are hashed; what it raises ends that.
Advance = Callable[[Hashed], None]


class Readers:
    """Threads that read files, as long as a block runs."""

    def __init__(self, advance: Advance, of_files: int) -> None:
        """Start no thread yet.

        Args:
            advance: called with how far all of them are.
            of_files: how many files there are.

        """
        self._advance, self._of_files = advance, of_files
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="hash")
        self._end, self._lock = Event(), Lock()
        #: Files that need not be read or are read, bytes that are read, and bytes that are to be read.
        self._files, self._size_bytes, self._of_bytes = 0, 0, 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the threads; what they read is given up."""
        self._end.set()
        self._threads.shutdown(cancel_futures=True)

    def begin(self, files: int, size_bytes: int) -> None:
        """Say how many of the files are to be hashed, and how many bytes they have."""
        self._files, self._of_bytes = self._of_files - files, size_bytes

    def each(self, look: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """What a function finds out about each item, in order.

        Raises:
            InvalidInput: a file cannot be read.

        """
        begun: deque[Future[Result]] = deque()
        for item in items:
            begun.append(self._threads.submit(look, item))
            if len(begun) > ITEMS_AHEAD:
                yield self._result(begun.popleft())
        while begun:
            yield self._result(begun.popleft())
        self._tell()

    def hash(self, file: Path) -> tuple[Facts, bytes, bool]:
        """What tells a file's versions apart, its SHA-256 in hexadecimal, and whether it has lain unchanged for long.

        Raises:
            InvalidInput: it cannot be read.

        """
        digest = hashlib.sha256()
        try:
            with opened(file) as content:
                facts = _facts(os.fstat(content.fileno()))
                settled = time.time_ns() - max(facts[1:3]) > SETTLED_NS
                while not self._end.is_set() and (chunk := content.read(CHUNK_BYTES)):
                    digest.update(chunk)
                    with self._lock:
                        self._size_bytes += len(chunk)
        except NoFile as error:
            raise InvalidInput(f"{shown(file)}: {error}") from None
        except OSError as error:
            raise InvalidInput(f"{shown(file)}: {error.strerror or error}") from error
        with self._lock:
            self._files += 1
        return facts, digest.hexdigest().encode(), settled

    def _result(self, future: Future[Result]) -> Result:
        self._tell()
        while not future.done():
            wait((future,), REPORT_SECONDS)
            self._tell()
        return future.result()

    def _tell(self) -> None:
        self._advance(Hashed(self._files, self._of_files, self._size_bytes, self._of_bytes))


def facts_of(files: Sequence[Path]) -> list[Facts]:
    """What tells each file's versions apart.

    Raises:
        InvalidInput: one cannot be looked at.

    """
    found: list[Facts] = []
    for file in files:
        try:
            found.append(_facts(file.stat()))
        except OSError as error:
            raise InvalidInput(f"{shown(file)}: {error.strerror or error}") from error
    return found


def _facts(status: os.stat_result) -> Facts:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
