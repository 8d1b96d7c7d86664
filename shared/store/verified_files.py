"""Verified files: those that were found to be what a manifest says, each hashed once, until it changes."""

from __future__ import annotations

import stat
from pathlib import Path

from distill_queue.shared.errors import ArtifactDamaged, store_errors
from distill_queue.shared.store.manifest import FileEntry, sha256_of

#: Tells a verified file from a changed one: size, time of change in ns, inode.
Stamp = tuple[int, int, int]


class VerifiedFiles:
    """The files that this process has verified."""

    def __init__(self) -> None:
        self._stamps: dict[Path, Stamp] = {}

    def require(self, path: Path, entry: FileEntry, called: str | None = None) -> None:
        """Compare a file with its entry in a manifest; `called` is its name in messages, if not its path.

        Raises:
            ArtifactDamaged: it is missing, altered, or no file.

        """
        called = called or str(path)
        with store_errors(path):
            try:
                status = path.stat()
            except FileNotFoundError:
                raise ArtifactDamaged(f"{called}: missing") from None
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactDamaged(f"{called}: not a file")
            if status.st_size != entry.size_bytes:
                raise ArtifactDamaged(f"{called}: {status.st_size:,} bytes long instead of {entry.size_bytes:,}")
            stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
            if self._stamps.get(path) == stamp:
                return
            if sha256_of(path) != entry.sha256:
                raise ArtifactDamaged(f"{called}: altered: its SHA-256 is not the one in the manifest")
        self._stamps[path] = stamp

    def rename(self, path: Path, new: Path) -> None:
        """Rename a verified file, which then need not be hashed again.

        Raises:
            OSError: it cannot be renamed.

        """
        path.replace(new)
        self._stamps[new] = self._stamps.pop(path)
