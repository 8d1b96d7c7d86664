"""Pieces of a store in a bucket, where nothing can be moved: before each removal the caller looks what may go."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill_queue.shared.files.bucket import Bucket, Facts
from distill_queue.shared.line import listed
from distill_queue.shared.store.artifact import Entry, place_of
from distill_queue.shared.store.manifest import MANIFEST
from distill_queue.shared.store.pieces import DAMAGED, MOST_NAMED, PARTIAL, STAYS, MayGo, Piece, Removal

#: Seconds for which it is taken to be known what may go, while pieces are removed.
LOOK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BucketPieces:
    """The `Pieces` of a store in a bucket.

    The manifest of an artifact is removed first: from then on the artifact is absent, and is made again if needed. Then
    the files are removed that were listed before: a later commit has other names for its files.
    """

    bucket: Bucket
    #: Lists the store's artifacts.
    entries: Callable[[], Iterable[Entry]]

    def clear_trash(self) -> None:
        """Do nothing: a bucket has no trash."""

    def remove(self, pieces: Sequence[Piece], look: Callable[[], MayGo]) -> Removal:
        """Remove pieces, but for those that must stay by now, or that somebody has used.

        Raises:
            StoreUnavailable: something cannot be removed.

        """
        removed, may_go, looked = [], look(), time.monotonic()
        for piece in pieces:
            if time.monotonic() > looked + LOOK_SECONDS:
                may_go, looked = look(), time.monotonic()
            found = self.bucket.list(str(piece.path))
            if found and self._touched(piece, found) == piece.touched and may_go(piece):
                self._remove(piece, found)
                removed.append(piece)
        return Removal(tuple(removed), tuple(piece for piece in pieces if piece not in removed))

    def __iter__(self) -> Iterator[Piece]:
        """All pieces that may be garbage, artifacts first."""
        for entry in self.entries():
            # Files without a manifest: their commit goes on, was cut off or came second, or they were set aside.
            what: Literal["artifact", "draft"] = "artifact" if entry.manifest else "draft"
            folder = Path(place_of(entry.ref))
            yield Piece(what, entry.ref.kind, entry.ref.key, folder, entry.size_bytes, int(entry.used * 1e9))
        for folder, found in self._folders("partial", PARTIAL):
            yield Piece("unfinished", "", folder.name, folder, _size(found), _newest(found))
        for folder, found in self._folders("damaged", DAMAGED):
            kind, key = (*folder.name.split("-"), "", "")[:2]
            yield Piece("damaged", kind, key, folder, _size(found), _newest(found))

    def _touched(self, piece: Piece, found: dict[str, Facts]) -> int:
        """When a piece was last written or used, in ns since the epoch."""
        used = self.bucket.list(f"used/{piece.kind}/{piece.key}") if piece.what == "artifact" else {}
        return _newest(found | used)

    def _remove(self, piece: Piece, found: dict[str, Facts]) -> None:
        manifest = f"{piece.path}/{MANIFEST}"
        if manifest in found:
            self.bucket.remove(manifest)
        self.bucket.remove(*(name for name in found if name != manifest))
        if piece.what == "artifact":
            self.bucket.remove(f"used/{piece.kind}/{piece.key}")

    def _folders(self, name: str, pattern: str) -> Iterator[tuple[Path, dict[str, Facts]]]:
        """The folders in a folder whose names are the store's own, and the objects below each."""
        found: dict[str, dict[str, Facts]] = {}
        for path, facts in self.bucket.list(name).items():
            found.setdefault("".join(path.split("/")[1:2]), {})[path] = facts
        if others := [repr(folder) for folder in found if not re.fullmatch(pattern, folder)]:
            logger.warning(STAYS, f"{self.bucket.url}/{name}", listed(others, MOST_NAMED))
        for folder, below in found.items():
            if re.fullmatch(pattern, folder):
                yield Path(name, folder), below


def _size(found: dict[str, Facts]) -> int:
    return sum(facts.size_bytes for facts in found.values())


def _newest(found: dict[str, Facts]) -> int:
    """When the newest of some objects was written, in ns since the epoch."""
    return int(max(facts.written for facts in found.values()) * 1e9)
