"""Copies of a bucket's artifacts on this machine, in a folder of limited size."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from distill_queue.shared.errors import StoreUnavailable, store_errors
from distill_queue.shared.files.folders import clear_away, found_below, found_in, size_below
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, FileEntry, Manifest, write_manifest

#: Seconds after its last use for which a copy is kept, even if there is no room for others.
KEPT_SECONDS = 3_600.0
#: Share of the room for copies that may be downloaded between two looks at how much they take.
LOOK_SHARE = 0.05
#: Seconds after its last change after which unfinished work is removed: its worker is gone, or others went on with it.
IDLE_SECONDS = 86_400.0


class Copies:
    """The copies of a bucket's artifacts, each where a folder store would have the artifact."""

    def __init__(self, store: FolderStore, most_bytes: int) -> None:
        self._store = store
        self._most_bytes = most_bytes
        #: Bytes that this process may download before it looks how much the copies take.
        self._until_look = 0

    @contextmanager
    def locked(self, ref: ArtifactRef) -> Iterator[None]:
        """Hold an artifact's lock: one process of this machine at a time downloads files of it."""
        path = self._store.root / "fresh" / f"{ref.key}.lock"
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    def keep(self, path: Path, content: bytes) -> None:
        """Write a small file of the folder, whole.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        with store_errors(path), self._fresh() as fresh:
            fresh.write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh.replace(path)

    def keep_manifest(self, ref: ArtifactRef, text: bytes) -> None:
        """Keep the manifest of an artifact; a copy that has another one is dropped.

        Raises:
            StoreUnavailable: it cannot be read or written.

        """
        path = self._store.folder(ref) / MANIFEST
        with store_errors(path):
            here = path.read_bytes() if path.is_file() else None
        if here == text:
            return
        if here is not None:
            self.drop(ref)
        self.keep(path, text)

    def bring(self, path: Path, entry: FileEntry, blocks: Iterable[bytes], called: str) -> Path:
        """Write a file of an artifact, and verify it before it takes its place; `called` is its name in messages.

        Raises:
            ArtifactDamaged: it is not as the manifest says.
            StoreUnavailable: it cannot be written.

        """
        self._make_room(entry.size_bytes)
        with store_errors(path), self._fresh() as fresh:
            with fresh.open("wb") as file:
                file.writelines(blocks)
            self._store.verified_files.require(fresh, entry, called)
            path.parent.mkdir(parents=True, exist_ok=True)  # Another process may have made room.
            self._store.verified_files.rename(fresh, path)
        return path

    def take(self, ref: ArtifactRef, draft: Path, manifest: Manifest) -> None:
        """Move a committed draft to where the copy of its artifact lies."""
        self._make_room(sum(entry.size_bytes for entry in manifest.files.values()))
        self.drop(ref)
        with suppress(OSError):  # No room, or another process downloaded it meanwhile: the bucket has it.
            write_manifest(draft, manifest)
            self._store.folder(ref).parent.mkdir(parents=True, exist_ok=True)
            draft.rename(self._store.folder(ref))

    def drop(self, ref: ArtifactRef) -> None:
        """Remove the copy of an artifact; a process that has one of its files open reads on."""
        clear_away(self._store.folder(ref))

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """The path of a new file, which is removed at the end unless it was renamed."""
        path = self._store.root / "fresh" / f"{os.getpid()}-{secrets.token_hex(8)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _make_room(self, size_bytes: int) -> None:
        """Drop the least recently used copies, until the rest leaves room for what is downloaded next."""
        self._until_look -= size_bytes
        if self._until_look > 0:
            return
        self._until_look = int(self._most_bytes * LOOK_SHARE)
        self._sweep()
        copies: list[tuple[float, ArtifactRef, int]] = []
        for ref, folder in self._store.folders():
            with suppress(OSError, StoreUnavailable):  # Gone meanwhile, or closed to this user, who cannot drop it.
                copies.append((folder.stat().st_mtime, ref, size_below(folder.path)))
        room = self._most_bytes - size_bytes - self._until_look
        for used, ref, size in sorted(copies, key=lambda copy: copy[0], reverse=True):
            room -= size
            if room < 0 and used < time.time() - KEPT_SECONDS:
                self.drop(ref)

    def _sweep(self) -> None:
        """Remove half-downloaded files and unfinished work that did not change for `IDLE_SECONDS`."""
        for path in (*found_in(self._store.root / "fresh"), *found_in(self._store.root / "partial")):
            with suppress(OSError, StoreUnavailable):  # Gone meanwhile, or another user's.
                if max(each.stat().st_mtime for each in (path, *found_below(path))) < time.time() - IDLE_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
