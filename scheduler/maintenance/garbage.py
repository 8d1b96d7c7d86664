"""Garbage: what no pipeline needs in a store; each kind of store has its own way to remove it."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.errors import store_errors
from distill_queue.shared.store.store import ArtifactStore

#: Seconds for which unfinished and damaged pieces are left alone: a worker that works on them writes more often.
GRACE_SECONDS = 86_400.0
#: The names of folders in `partial/`, and of those that were set aside in `damaged/`, as patterns.
PARTIAL = "[0-9a-f]{64}"
DAMAGED = rf"[a-z_]+-{PARTIAL}(-\d+)?"
#: The message about names that no store gives, and the most of these that it lists.
STAYS = "%s: left alone, as no store makes it: %s"
MOST_NAMED = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """Something that may be garbage: a folder of the store."""

    what: Literal["artifact", "unfinished", "draft", "damaged"]
    kind: str
    key: str
    path: Path
    size_bytes: int
    #: When it was last used or changed, in ns since the epoch.
    touched: int
    #: Whether all users of the store can note that they use it: else it is not known when it was last used.
    use_is_noted: bool = True

    @property
    def facts(self) -> dict[str, Any]:
        """The piece as JSON has it."""
        return {"what": self.what, "kind": self.kind, "key": self.key, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Removal:
    """What was removed, and what was put back."""

    removed: tuple[Piece, ...]
    #: Pieces that were needed or used since they were listed.
    put_back: tuple[Piece, ...]


@dataclass(frozen=True, slots=True)
class Garbage(ABC):
    """What no pipeline needs, if it was not used for some time."""

    store: ArtifactStore
    #: Returns what pipelines need now.
    look: Callable[[], NeededArtifacts]
    keep_seconds: float

    def find(self) -> list[Piece]:
        """The pieces that may be removed, artifacts first; changes nothing."""
        needed = self.look()
        with store_errors(self.store.root):
            found = [piece for piece in self.pieces() if self.may_go(piece, needed)]
        if self.keep_seconds and (unsure := [piece for piece in found if not piece.use_is_noted]):
            logger.warning(
                "%d artifacts stay, as not all users can note their use (first %s): chmod -R g+w, or --keep-days 0",
                len(unsure),
                unsure[0].path,
            )
            found = [piece for piece in found if piece.use_is_noted]
        going = {piece.path for piece in found}
        # A draft is removed with the unfinished work that it is a part of.
        return [piece for piece in found if piece.what != "draft" or piece.path.parent not in going]

    @abstractmethod
    def clear_trash(self) -> None:
        """Put back, or delete, what a killed run has left in the trash."""

    @abstractmethod
    def remove(self, pieces: Sequence[Piece]) -> Removal:
        """Remove pieces, except those that a pipeline needs now or a worker has used meanwhile.

        Raises:
            Unavailable: something cannot be removed, or it cannot be known what is needed.

        """

    @abstractmethod
    def pieces(self) -> Iterator[Piece]:
        """All pieces that may be garbage, artifacts first."""

    def may_go(self, piece: Piece, needed: NeededArtifacts) -> bool:
        """Whether a piece was not used for long enough, no pipeline needs it, and no worker works on it."""
        keep_seconds = self.keep_seconds if piece.what == "artifact" else GRACE_SECONDS
        if piece.touched / 1e9 > time.time() - keep_seconds:
            return False
        if piece.what == "damaged":
            return True
        if piece.key in needed.worked_on:
            return False
        return piece.what == "draft" or piece.key not in needed.pipelines
