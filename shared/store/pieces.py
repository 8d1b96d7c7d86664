"""Pieces: the folders of a store that may be garbage, and what became of those that were removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

#: What the store calls the folders in `partial/`, and what it has set aside in `damaged/`, as patterns.
PARTIAL = "[0-9a-f]{64}"
DAMAGED = rf"[a-z_]+-{PARTIAL}(-\d+)?"
#: What is told of names that are none of the store's, and how many of these.
STAYS = "%s: nothing that a store makes: %s: it stays"
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
    #: Whether all who work in the store can note that they use it: else nobody knows when it was last used.
    use_is_noted: bool = True

    @property
    def facts(self) -> dict[str, Any]:
        """The piece as JSON has it."""
        return {"what": self.what, "kind": self.kind, "key": self.key, "size_bytes": self.size_bytes}


@dataclass(frozen=True, slots=True)
class Removal:
    """What became of garbage."""

    removed: tuple[Piece, ...]
    #: Needed or used since it was listed.
    put_back: tuple[Piece, ...]


#: Says of a piece whether it may go.
MayGo = Callable[[Piece], bool]


class Pieces(Protocol):
    """Everything in a store that may be garbage, each kind of store with its own way to remove it."""

    def __iter__(self) -> Iterator[Piece]:
        """Everything that may be garbage: artifacts first."""

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
