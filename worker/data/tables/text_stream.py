"""Text streams: a file's text as UTF-8, read piece by piece while a library parses it in a thread.

Memory holds a few pieces of the file, whatever its size; the thread that waits reports how far it is, and can end it.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from io import TextIOWrapper
from os import fstat
from pathlib import Path
from threading import Event
from typing import IO, Any, TypeVar

import pyarrow as pa

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoFile, opened
from distill_queue.worker.data.tables.text_file import no_text
from distill_queue.worker.machine.runtime import Report

#: Bytes of a file that are decoded in one go.
PIECE_BYTES = 1 << 20
#: Bytes that are parsed in one go, and the most where a row is longer.
BLOCK_BYTES, LARGEST_BLOCK_BYTES = 1 << 24, 1 << 30
#: Seconds between two reports.
REPORT_SECONDS = 0.2
#: What begins a file of some programs.
MARK = "\ufeff"

Parsed = TypeVar("Parsed")


class TextStream:
    """The text of a file as UTF-8; counts what it passes on."""

    #: pyarrow asks for it.
    closed = False

    def __init__(self, file: IO[bytes], called: str, encoding: str) -> None:
        """Read nothing yet.

        Args:
            file: the file, opened.
            called: what messages call it.
            encoding: Python's name of it.

        """
        self._file, self._called, self._encoding = file, called, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._waiting, self._at_end = bytearray(), False
        self.size_bytes, self.read_bytes = fstat(file.fileno()).st_size, 0
        #: Ends of lines among the bytes that were read.
        self._lines = 0
        #: Whether anything but blanks was read, whether a character was 0, and how many quotation marks.
        self.has_text, self.has_zeros, self.quotation_marks = False, False, 0
        #: Set by another thread to end the reading.
        self.end = Event()

    def read(self, size: int) -> bytes:
        """Up to so many bytes of UTF-8; none at the end.

        Raises:
            InvalidSpec: the file is in another encoding; the message says where.
            InterruptedError: another thread ended the reading.

        """
        while len(self._waiting) < size and not self._at_end:
            if self.end.is_set():
                raise InterruptedError("the reading was ended")
            self._waiting += self._next().encode()
        taken = bytes(self._waiting[:size])
        del self._waiting[:size]
        return taken

    def tell(self, report: Report) -> None:
        """Report how far the file is read; raises what `report` raises."""
        done, whole = self.read_bytes, max(self.size_bytes, 1)
        report(f"reading {self._called}, {done / 1e6:,.0f} of {whole / 1e6:,.0f} MB", 0, min(1.0, done / whole))

    def _next(self) -> str:
        """The text of the next piece."""
        before = self._decoder.getstate()[0]
        piece = self._file.read(PIECE_BYTES)
        self._at_end = not piece
        try:
            text = self._decoder.decode(piece, self._at_end)
        except UnicodeError as error:
            start = self.read_bytes - len(before)
            raise no_text(self._called, self._encoding, error, start, self._lines) from error
        if not self.read_bytes:
            text = text.removeprefix(MARK)
        self.read_bytes += len(piece)
        self._lines += piece.count(b"\n")
        self.has_text = self.has_text or bool(text.strip())
        self.has_zeros = self.has_zeros or "\0" in text
        self.quotation_marks += text.count('"')
        return text


def parsed(
    place: Path, called: str, encoding: str, parse: Callable[[TextStream, int], Parsed], report: Report
) -> tuple[Parsed | pa.ArrowException, TextStream]:
    """What pyarrow makes of a text file, or its error, and what was seen of the file.

    Args:
        place: the file.
        called: what messages call it.
        encoding: Python's name of it.
        parse: reads all of the text, by blocks of so many bytes, in a thread.
        report: called again and again; what it raises ends the reading.

    Raises:
        InvalidSpec: it is no file, or in another encoding; the message says where.

    """
    found = _parsed(place, called, encoding, lambda stream: parse(stream, BLOCK_BYTES), report)
    if isinstance(found[0], pa.ArrowException) and found[1].size_bytes > BLOCK_BYTES:  # Is a row longer than a block?
        whole = min(LARGEST_BLOCK_BYTES, 3 * found[1].size_bytes + 1)  # No encoding takes less than a third of UTF-8.
        found = _parsed(place, called, encoding, lambda stream: parse(stream, whole), report)
    return found


@contextmanager
def lines(place: Path, called: str, encoding: str, end: str = "") -> Iterator[Iterator[str]]:
    """The lines of a file with their ends, as they stand in it; without `end`, any end of a line is one."""
    with _opened(place, called) as file, TextIOWrapper(file, _with_mark(encoding), newline=end) as text:
        yield text


def _parsed(
    place: Path, called: str, encoding: str, parse: Callable[[TextStream], Parsed], report: Report
) -> tuple[Parsed | pa.ArrowException, TextStream]:
    with _opened(place, called) as file, ThreadPoolExecutor(1, thread_name_prefix="parse") as pool:
        stream = TextStream(file, called, encoding)
        future = pool.submit(parse, stream)
        try:
            while wait((future,), REPORT_SECONDS).not_done:
                stream.tell(report)
        finally:
            stream.end.set()
        stream.tell(report)
        try:
            return future.result(), stream
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            return error, stream


@contextmanager
def _opened(place: Path, called: str) -> Iterator[Any]:
    """The file, opened.

    Raises:
        InvalidSpec: it is no file.

    """
    try:
        with opened(place) as file:
            yield file
    except NoFile as error:
        raise InvalidSpec(f"{called}: {error}") from error


def _with_mark(encoding: str) -> str:
    """The encoding whose decoder leaves out the mark that some programs begin a file with."""
    return "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
