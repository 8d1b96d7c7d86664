"""Garbage in a bucket, where objects cannot be moved: needed artifacts are looked up again before each removal."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from distill_queue.scheduler.maintenance.garbage import DAMAGED, MOST_NAMED, PARTIAL, STAYS, Garbage, Piece, Removal
from distill_queue.shared.files.bucket import Facts
from distill_queue.shared.line import listed
from distill_queue.shared.store.artifact import place_of
from distill_queue.shared.store.bucket_store import BucketStore
from distill_queue.shared.store.manifest import MANIFEST

#: Seconds, while pieces are removed, before it is looked up again what pipelines need.
LOOK_SECONDS = 1.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BucketGarbage(Garbage):
    """Artifacts, drafts and unfinished work in a bucket that no pipeline needs and that were not used for some time.

    The manifest of an artifact is removed first: from then on the artifact is absent, and is made again if needed. Then
    the files are removed that were listed before: a later commit has other names for its files.
    """

    store: BucketStore

    def clear_trash(self) -> None:
        """Do nothing: a bucket has no trash."""

    def remove(self, pieces: Sequence[Piece]) -> Removal:
        """Remove pieces, except those that a pipeline needs now or a worker has used meanwhile.

        Raises:
            Unavailable: something cannot be removed, or it cannot be known what is needed.

        """
        removed, needed, looked = [], self.look(), time.monotonic()
        for piece in pieces:
            if time.monotonic() > looked + LOOK_SECONDS:
                needed, looked = self.look(), time.monotonic()
            found = self.store.bucket.list(str(piece.path))
            if found and self._touched(piece, found) == piece.touched and self.may_go(piece, needed):
                self._remove(piece, found)
                removed.append(piece)
        return Removal(tuple(removed), tuple(piece for piece in pieces if piece not in removed))

    def pieces(self) -> Iterator[Piece]:
        """All pieces that may be garbage, artifacts first."""
        for entry in self.store.entries():
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
        used = self.store.bucket.list(f"used/{piece.kind}/{piece.key}") if piece.what == "artifact" else {}
        return _newest(found | used)

    def _remove(self, piece: Piece, found: dict[str, Facts]) -> None:
        manifest = f"{piece.path}/{MANIFEST}"
        if manifest in found:
            self.store.bucket.remove(manifest)
        self.store.bucket.remove(*(name for name in found if name != manifest))
        if piece.what == "artifact":
            self.store.bucket.remove(f"used/{piece.kind}/{piece.key}")

    def _folders(self, name: str, pattern: str) -> Iterator[tuple[Path, dict[str, Facts]]]:
        """The folders in a folder whose names are the store's own, and the objects below each."""
        found: dict[str, dict[str, Facts]] = {}
        for path, facts in self.store.bucket.list(name).items():
            found.setdefault("".join(path.split("/")[1:2]), {})[path] = facts
        if others := [repr(folder) for folder in found if not re.fullmatch(pattern, folder)]:
            logger.warning(STAYS, f"{self.store}/{name}", listed(others, MOST_NAMED))
        for folder, below in found.items():
            if re.fullmatch(pattern, folder):
                yield Path(name, folder), below


def _size(found: dict[str, Facts]) -> int:
    return sum(facts.size_bytes for facts in found.values())


def _newest(found: dict[str, Facts]) -> int:
    """When the newest of some objects was written, in ns since the epoch."""
    return int(max(facts.written for facts in found.values()) * 1e9)
