"""Garbage: what no pipeline needs in a store, if it was not used for some time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.errors import store_errors
from distill_queue.shared.store.pieces import MayGo, Piece, Removal
from distill_queue.shared.store.store import ArtifactStore

#: Seconds for which unfinished and damaged pieces are left alone: a worker that works on them writes more often.
GRACE_SECONDS = 86_400.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Garbage:
    """What no pipeline needs, if it was not used for some time."""

    store: ArtifactStore
    #: Returns what pipelines need now.
    look: Callable[[], NeededArtifacts]
    keep_seconds: float

    def find(self) -> list[Piece]:
        """The pieces that may be removed, artifacts first; changes nothing."""
        needed = self.look()
        with store_errors(self.store.root):
            found = [piece for piece in self.store.pieces if self.may_go(needed, piece)]
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

    def clear_trash(self) -> None:
        """Put back, or delete, what a killed run has left in the trash."""
        self.store.pieces.clear_trash()

    def remove(self, pieces: Sequence[Piece]) -> Removal:
        """Remove pieces, except those that a pipeline needs now or a worker has used meanwhile.

        Raises:
            Unavailable: something cannot be removed, or it cannot be known what is needed.

        """

        def look() -> MayGo:
            return partial(self.may_go, self.look())

        return self.store.pieces.remove(pieces, look)

    def may_go(self, needed: NeededArtifacts, piece: Piece) -> bool:
        """Whether a piece was not used for long enough, no pipeline needs it, and no worker works on it."""
        keep_seconds = self.keep_seconds if piece.what == "artifact" else GRACE_SECONDS
        if piece.touched / 1e9 > time.time() - keep_seconds:
            return False
        if piece.what == "damaged":
            return True
        if piece.key in needed.worked_on:
            return False
        return piece.what == "draft" or piece.key not in needed.pipelines
