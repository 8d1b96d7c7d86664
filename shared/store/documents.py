"""Documents: small texts of a store, by name, that may change; each is written whole. A `Bucket` holds some too."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.files import read
from distill_queue.shared.files.folders import draft_file, found_in

#: Largest document that is read; the submission of 10,000 students has 84 MB.
MOST_BYTES = 256_000_000


class Documents(Protocol):
    """What the store keeps in one of its folders, such as `pipelines`; every method raises `StoreUnavailable`."""

    def list(self) -> Iterable[str]:
        """The names, sorted."""

    def read(self, name: str) -> bytes | None:
        """The content of a document, if there is one.

        Raises:
            NoFile: something else than a file lies there, or one that is too large.

        """

    def write(self, name: str, content: bytes) -> None:
        """Write a document, replacing one of that name; it is whole and durable when this returns."""

    def remove(self, *names: str) -> None:
        """Remove documents; those that are gone already are no error."""


@dataclass(frozen=True, slots=True)
class FolderDocuments:
    """Documents that are the files of a folder."""

    folder: Path

    def list(self) -> Iterable[str]:
        """The names, sorted."""
        return [path.name for path in found_in(self.folder)]

    def read(self, name: str) -> bytes | None:
        """The content of a document, if there is one.

        Raises:
            NoFile: something else than a file lies there, or one that is too large.

        """
        with store_errors(self.folder / name):
            try:
                return read(self.folder / name, MOST_BYTES)
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Write a document, replacing one of that name; it is whole and on the disk when this returns."""
        with store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / name
            with draft_file(path) as draft:
                with draft.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)

    def remove(self, *names: str) -> None:
        """Remove documents; those that are gone already are no error."""
        with store_errors(self.folder):
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
