"""Pieces: the folders of a store that may be garbage, and what became of those that were removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

#: The names of folders in `partial/`, and of those that were set aside in `damaged/`, as patterns.
PARTIAL = "[0-9a-f]{64}"
DAMAGED = rf"[a-z_]+-{PARTIAL}(-\d+)?"
#: The message about names that no store gives, and the most of these that it lists.
STAYS = "%s: left alone, as no store makes it: %s"
MOST_NAMED = 5


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


#: Says of a piece whether it may go.
MayGo = Callable[[Piece], bool]


class Pieces(Protocol):
    """Everything in a store that may be garbage, each kind of store with its own way to remove it."""

    def __iter__(self) -> Iterator[Piece]:
        """All pieces that may be garbage, artifacts first."""

    def clear_trash(self) -> None:
        """Put back, or delete, what a removal that was killed has left."""

    def remove(self, pieces: Sequence[Piece], look: Callable[[], MayGo]) -> Removal:
        """Remove pieces, but for those that must stay, or that somebody has used, by now.

        Args:
            pieces: what was listed.
            look: looks what pipelines need now; returns what says of a piece whether it may go.

        Raises:
            StoreUnavailable: something cannot be removed.

        """
