"""The artifact store: whole or absent, verified, never overwritten."""

from __future__ import annotations

import errno
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, store_errors
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.files.folders import clear_away, draft_folder, folders_in, found_in, is_folder, size_below
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.records import Record
from distill_queue.shared.spelling import pipeline_id
from distill_queue.shared.store.artifact import Artifact, Entry, place_of
from distill_queue.shared.store.manifest import (
    MANIFEST,
    MOST_MANIFEST_BYTES,
    FileEntry,
    Manifest,
    Provenance,
    fsync,
    manifest_of,
    manifest_text,
    seal,
    sha256_of,
    write_manifest,
)

logger = logging.getLogger(__name__)

#: What tells that a file is the one that was verified: size, time of change in ns, inode.
Stamp = tuple[int, int, int]


class ArtifactStore:
    """A folder of artifacts, on a local disk or a network share."""

    #: What other machines see in its place; None where they see the folder.
    objects: Bucket | None = None

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._verified: dict[Path, Stamp] = {}

    def __str__(self) -> str:
        return str(self.root)

    def __contains__(self, ref: ArtifactRef) -> bool:
        path = self.folder(ref) / MANIFEST
        with store_errors(path):
            return path.is_file()

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact if `look` finds it there and whole; a damaged one is set aside, to be made again."""
        return self._unless_damaged(ref, self.look)

    def obtain(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact if it is there and whole, for reading; a damaged one is set aside, to be made again."""
        return self._unless_damaged(ref, self.open)

    def look(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, which others can read too; like `open`, where every machine reads the same files."""
        return self.open(ref)

    def open(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, every file as its manifest says; each file is hashed once, until it changes.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or altered.

        """
        artifact = self.glance(ref)
        for name in artifact.manifest.files:
            self.verified(artifact, name)
        return artifact

    def glance(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, with no look at its files: these may be missing or altered.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read.

        """
        folder = self.folder(ref)
        with store_errors(folder):
            try:
                text = read(folder / MANIFEST, MOST_MANIFEST_BYTES)
            except NoFile as error:
                raise ArtifactDamaged(f"{folder / MANIFEST}: {error}") from None
            except FileNotFoundError:
                if folder.is_dir():
                    raise ArtifactDamaged(f"{folder / MANIFEST}: missing") from None
                raise self._missing(ref) from None
        return Artifact(folder, manifest_of(ref, text, folder))

    def verified(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is as the manifest says.

        Raises:
            ArtifactDamaged: it is missing, altered, or not one of its files.

        """
        path = artifact.path(name)
        self._verify(path, artifact.manifest.files[name])
        return path

    def folder(self, ref: ArtifactRef) -> Path:
        """Where an artifact lies, or will."""
        return self.root / place_of(ref)

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""
        return [ref for ref, _ in self._folders_of(kind) if ref in self]

    def folders(self) -> Iterator[tuple[ArtifactRef, os.DirEntry[str]]]:
        """The folder of each artifact, by kind and key; of what lacks its manifest too. No link is followed."""
        if is_folder(self.root / "artifacts"):
            for folder in folders_in(f"{self.root}/artifacts"):
                yield from self._folders_of(folder.name)

    def entries(self) -> Iterator[Entry]:
        """What there is of each artifact, by kind and key; of what lacks its manifest too."""
        with store_errors(self.root):
            for ref, folder in self.folders():
                with suppress(FileNotFoundError):  # Taken for garbage at this moment.
                    used = folder.stat(follow_symlinks=False).st_mtime
                    yield Entry(ref, size_below(folder.path), used, manifest_text(folder.path))

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """What others read as an artifact's manifest; empty where there is none."""
        return manifest_text(str(self.folder(ref)))

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""
        return size_below(self.root / folder)

    def brought(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files on this machine, whole or not."""
        return self.folder(ref)

    @contextmanager
    def reread(self, ref: ArtifactRef) -> Iterator[Artifact]:
        """The artifact of a key, once every byte that others would read was read.

        Raises:
            ArtifactMissing, ArtifactDamaged: as for `open`.

        """
        yield self.open(ref)

    def unfinished(self, _ref: ArtifactRef) -> Bucket | None:
        """Where other machines see a stage's unfinished work; None where they see its folder."""
        return None

    def partial(self, ref: ArtifactRef) -> Path:
        """The folder of a stage's unfinished work, which another machine can go on with."""
        return self.root / "partial" / ref.key

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work."""
        clear_away(self.partial(ref))

    def set_aside(self, ref: ArtifactRef) -> None:
        """Move a damaged artifact out of the way."""
        damaged = self.root / "damaged"
        with store_errors(damaged), suppress(FileNotFoundError):  # Another worker was faster.
            damaged.mkdir(parents=True, exist_ok=True)
            self.folder(ref).rename(damaged / f"{ref.kind}-{ref.key}-{time.time_ns()}")

    @contextmanager
    def draft(self, ref: ArtifactRef) -> Iterator[Path]:
        """A new empty folder to write an artifact's files into; what is not committed is removed."""
        partial = self.partial(ref)
        with store_errors(partial):
            partial.mkdir(parents=True, exist_ok=True)
            try:
                with draft_folder(partial, "draft-") as folder:
                    yield folder
            finally:
                with suppress(OSError):  # Not empty: there are checkpoints, or another worker's draft.
                    partial.rmdir()

    def commit(
        self,
        ref: ArtifactRef,
        draft: Path,
        *,
        stage: Stage | None,
        record: Record | None,
        provenance: Provenance,
        seconds: float,
    ) -> Artifact:
        """Make a draft the artifact of its key: files, manifest, fsync, rename. The first commit wins."""
        self._settle(
            ref,
            draft,
            Manifest(
                kind=ref.kind,
                key=ref.key,
                stage=stage,
                # A draft that a commit was refused for has a manifest already.
                files={path.name: seal(path) for path in found_in(draft) if path.name != MANIFEST},
                record=record,
                provenance=provenance,
                seconds=seconds,
                created=time.time(),
            ).sealed(),
        )
        return self.open(ref)

    def report(self, pipeline: str) -> Path:
        """Where the page of a pipeline is, or will be.

        Raises:
            UnknownPipeline: no pipeline has such an id.

        """
        return file_of(pipeline, self.root / "reports", ".html")

    def share_report(self, pipeline: str) -> None:
        """Let other machines see the page of a pipeline."""

    def check_writable(self) -> None:
        """Write and remove a small file.

        Raises:
            StoreUnavailable: the store cannot be written; the message says why.

        """
        with store_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"x")

    def _folders_of(self, kind: str) -> Iterator[tuple[ArtifactRef, os.DirEntry[str]]]:
        folder = self.root / "artifacts" / kind
        for group in folders_in(str(folder)) if is_folder(folder) else ():
            for artifact in folders_in(group.path):
                with suppress(ValidationError):  # None of ours.
                    ref = ArtifactRef(kind=kind, key=artifact.name)
                    if ref.key[:2] == group.name:
                        yield ref, artifact

    def _unless_damaged(self, ref: ArtifactRef, how: Callable[[ArtifactRef], Artifact]) -> Artifact | None:
        try:
            artifact = how(ref)
        except ArtifactMissing:
            return None
        except ArtifactDamaged as error:
            logger.warning("%s: it is set aside, to be made again", error)
            self.set_aside(ref)
            return None
        return artifact if self._note_use(ref) else None

    def _note_use(self, ref: ArtifactRef) -> bool:
        """Let a folder's time say when it was last used; whether it is still there."""
        try:
            os.utime(self.folder(ref))
        except FileNotFoundError:  # Taken for garbage at this moment.
            return False
        except OSError:  # Of another user, or on a disk that is only read.
            pass
        return True

    def _missing(self, ref: ArtifactRef) -> ArtifactMissing:
        return ArtifactMissing(f"no artifact {ref.kind}/{ref.short_key} in {self}: run 'distill submit' again")

    def _settle(self, ref: ArtifactRef, draft: Path, manifest: Manifest) -> None:
        """Make a draft that was sealed the artifact of its key, unless there is one."""
        with store_errors(draft):
            write_manifest(draft, manifest)
            folder = self.folder(ref)
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                draft.rename(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            fsync(folder.parent)

    def _verify(self, path: Path, entry: FileEntry) -> None:
        with store_errors(path):
            try:
                status = path.stat()
            except FileNotFoundError:
                raise ArtifactDamaged(f"{path}: missing") from None
            if not stat.S_ISREG(status.st_mode):
                raise ArtifactDamaged(f"{path}: not a file")
            if status.st_size != entry.size_bytes:
                raise ArtifactDamaged(f"{path}: {status.st_size:,} bytes long instead of {entry.size_bytes:,}")
            stamp = (status.st_size, status.st_mtime_ns, status.st_ino)
            if self._verified.get(path) == stamp:
                return
            if sha256_of(path) != entry.sha256:
                raise ArtifactDamaged(f"{path}: altered: its SHA-256 is not the one in the manifest")
        self._verified[path] = stamp


def file_of(pipeline: str, folder: Path, suffix: str) -> Path:
    """The file of a pipeline in a folder, and in no other.

    Raises:
        UnknownPipeline: no pipeline has such an id.

    """
    return folder / f"{pipeline_id(pipeline)}{suffix}"
