"""Decoding: many files by all cores into one file of samples, in memory that does not grow with their number."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import Unavailable
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.images.picture import Framing, NoPicture, pixels
from distill_queue.worker.data.row_file import RowFile
from distill_queue.worker.machine.outages import can_pass

#: Bytes of samples, and files, that one thread decodes in one go. A few of these are in memory at a time.
BLOCK_BYTES, BLOCK_FILES = 4_000_000, 64
#: Blocks for each thread that are begun and not yet written.
BLOCKS_AHEAD = 2
#: A file that is longer is no image: the longest that Pillow opens has half a billion bytes of pixels.
MOST_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Bad:
    """A file that is no image, or is damaged."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples in a file, in the order of the files that they were read from."""

    #: uint8 `[samples, channels, height, width]`, mapped.
    samples: Array
    #: Which files became samples: `[files]`.
    good: npt.NDArray[np.bool_]
    bad: tuple[Bad, ...]


@dataclass(frozen=True, slots=True)
class _Block:
    """What became of successive files."""

    samples: Array
    #: The places of bad files among them.
    bad: dict[int, Bad]
    files: int


@dataclass(frozen=True, slots=True)
class Decoder:
    """Decodes images by threads: Pillow works without Python's lock, and a worker starts no processes."""

    #: What an image's file holds, by its name; raises NoFile where it cannot be had.
    read: Callable[[str], bytes]
    framing: Framing
    threads: int
    #: Called with the number of images that were looked at since the last call; may raise, to end the work.
    advance: Callable[[int], None]

    def decode(self, names: Sequence[str], place: Path) -> Decoded:
        """Write the samples of some images to a place, one after the other; a bad one becomes none.

        Raises:
            Unavailable: an image cannot be read for now, or the samples cannot be written.

        """
        good, bad = np.ones(len(names), dtype=np.bool_), list[Bad]()
        with RowFile(place, np.uint8, self.framing.shape) as samples, warnings.catch_warnings():
            # Pillow warns of what it reads all the same.
            warnings.simplefilter("ignore")
            looked_at = 0
            for block in self._blocks(names):
                samples.write(block.samples)
                for index, each in block.bad.items():
                    good[looked_at + index] = False
                    bad.append(each)
                looked_at += block.files
                self.advance(block.files)
            return Decoded(samples.mapped(), good, tuple(bad))

    def _blocks(self, names: Sequence[str]) -> Iterator[_Block]:
        """Blocks in the order of their images, whichever thread is done first."""
        size = max(1, min(BLOCK_FILES, BLOCK_BYTES // math.prod(self.framing.shape)))
        begun: deque[Future[_Block]] = deque()
        with ThreadPoolExecutor(self.threads, thread_name_prefix="decode") as pool:
            try:
                for start in range(0, len(names), size):
                    begun.append(pool.submit(self._block, names[start : start + size]))
                    if len(begun) > BLOCKS_AHEAD * self.threads:
                        yield begun.popleft().result()
                while begun:
                    yield begun.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _block(self, names: Sequence[str]) -> _Block:
        samples, bad = np.empty((len(names), *self.framing.shape), dtype=np.uint8), dict[int, Bad]()
        for index, name in enumerate(names):
            try:
                samples[index - len(bad)] = pixels(self.read(name), self.framing)
            except (NoPicture, NoFile) as error:
                bad[index] = Bad(name, str(error))
        return _Block(samples[: len(names) - len(bad)], bad, len(names))


def content_of_file(path: Path, called: str) -> bytes:
    """What an image's file holds.

    Raises:
        NoFile: it cannot be had; trying again would not help.
        Unavailable: the disk does not give it for now.

    """
    try:
        return read(path, MOST_BYTES)
    except OSError as error:
        problem = error.strerror or str(error)
        if can_pass(error):
            raise Unavailable(f"dataset.path: {called}: {problem}") from error
        raise NoFile(f"cannot be opened: {problem}") from error
