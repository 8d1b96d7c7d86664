"""Garbage in an object store, where nothing can be moved: what is needed is looked up again before each removal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from scheduler.garbage import Garbage, Piece, Removal
from shared.errors import StoreUnavailable
from shared.objects import Facts, Objects
from shared.store import MANIFEST


class ObjectGarbage(Garbage):
    """What no pipeline needs and nobody has used for some time.

    A manifest goes first: from then on the artifact is absent for everybody, and made again where it is wanted.
    """

    def clear_trash(self) -> None:
        """There is none."""

    def remove(self, pieces: Sequence[Piece]) -> Removal:
        """Remove pieces, but for those that somebody needs or has used by now.

        Raises:
            Unavailable: something cannot be removed, or it cannot be known what is needed.

        """
        reach, now = self.look(), set(self.pieces())
        removed = tuple(piece for piece in pieces if piece in now and self.may_go(piece, reach))
        for piece in removed:
            self._objects.remove(f"{piece.path}/{MANIFEST}")
            self._objects.remove_all(str(piece.path))
            self._objects.remove(f"used/{piece.kind}/{piece.key}")
        return Removal(removed, tuple(piece for piece in pieces if piece not in removed))

    def pieces(self) -> Iterator[Piece]:
        """Everything that may be garbage: artifacts first."""
        for entry in self.store.entries():
            # Files without a manifest: of a commit that is under way, was cut off or came second, or set aside.
            what: Literal["artifact", "draft"] = "artifact" if entry.manifest else "draft"
            folder = Path("artifacts", entry.ref.kind, entry.ref.key[:2], entry.ref.key)
            yield Piece(what, entry.ref.kind, entry.ref.key, folder, entry.size_bytes, int(entry.used * 1e9))
        for folder, found in self._folders("partial"):
            yield Piece("unfinished", "", folder.name, folder, *_sum(found))
        for folder, found in self._folders("damaged"):
            kind, key = (*folder.name.split("-"), "", "")[:2]
            yield Piece("damaged", kind, key, folder, *_sum(found))

    @property
    def _objects(self) -> Objects:
        if self.store.objects is None:
            raise StoreUnavailable(f"store: {self.store}: no object store")
        return self.store.objects

    def _folders(self, name: str) -> Iterator[tuple[Path, list[Facts]]]:
        """The folders in one, and what lies below each."""
        found: dict[str, list[Facts]] = {}
        for path, facts in self._objects.list(name).items():
            found.setdefault(path.split("/")[1], []).append(facts)
        for folder, below in found.items():
            yield Path(name, folder), below


def _sum(found: list[Facts]) -> tuple[int, int]:
    """Bytes of some objects, and when one of them was last written, in ns since the epoch."""
    return sum(facts.size_bytes for facts in found), int(max(facts.written for facts in found) * 1e9)
