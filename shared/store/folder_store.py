"""The artifact store in a folder, on a local disk or a network share: a commit is one rename."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from distill_queue.shared.errors import ArtifactDamaged, store_errors
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.files.folders import clear_away, draft_folder, folders_in, is_folder, size_below
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.spelling import pipeline_id
from distill_queue.shared.store.artifact import Artifact, Entry, if_whole, missing, place_of
from distill_queue.shared.store.documents import Documents, FolderDocuments
from distill_queue.shared.store.folder_pieces import FolderPieces
from distill_queue.shared.store.manifest import (
    MANIFEST,
    MOST_MANIFEST_BYTES,
    Provenance,
    fsync,
    manifest_for,
    manifest_of,
    manifest_text,
    write_manifest,
)
from distill_queue.shared.store.verified_files import VerifiedFiles


class FolderStore:
    """An `ArtifactStore` whose folder every machine sees; the protocol says what its methods raise."""

    #: A look costs next to nothing.
    seconds_between_looks = 0.0

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.verified_files = VerifiedFiles()

    def __str__(self) -> str:
        return str(self.root)

    def __contains__(self, ref: ArtifactRef) -> bool:
        path = self.folder(ref) / MANIFEST
        with store_errors(path):
            return path.is_file()

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact of a key if it is there and whole; a damaged one is set aside, to be made again."""
        artifact = if_whole(ref, self.open, self.set_aside)
        return artifact if artifact and self.note_use(ref) else None

    def obtain(self, ref: ArtifactRef) -> Artifact | None:
        """As `find`: every machine reads the same files."""
        return self.find(ref)

    def open(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, every file as its manifest says; each file is hashed once, until it changes."""
        artifact = self.glance(ref)
        for name in artifact.manifest.files:
            self.verified(artifact, name)
        return artifact

    def glance(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, without a look at its files: these may be missing or altered."""
        folder = self.folder(ref)
        with store_errors(folder):
            try:
                text = read(folder / MANIFEST, MOST_MANIFEST_BYTES)
            except NoFile as error:
                raise ArtifactDamaged(f"{folder / MANIFEST}: {error}") from None
            except FileNotFoundError:
                if folder.is_dir():
                    raise ArtifactDamaged(f"{folder / MANIFEST}: missing") from None
                raise missing(ref, self) from None
        return Artifact(folder, manifest_of(ref, text, folder))

    @contextmanager
    def reread(self, ref: ArtifactRef) -> Iterator[Artifact]:
        """The artifact of a key, after every byte of it was read."""
        yield self.open(ref)

    def verified(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is as the manifest says."""
        path = artifact.path(name)
        self.verified_files.require(path, artifact.manifest.files[name])
        return path

    def local_file(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is not looked at."""
        return artifact.path(name)

    def local_folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files, whole or not."""
        return self.folder(ref)

    def folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact, which need not exist yet."""
        return self.root / place_of(ref)

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""
        return [ref for ref, _ in self._folders_of(kind) if ref in self]

    def entries(self) -> Iterator[Entry]:
        """An entry for each artifact, by kind and key, and for remains of artifacts without a manifest."""
        with store_errors(self.root):
            for ref, folder in self.folders():
                with suppress(FileNotFoundError):  # Removed as garbage just now.
                    used = folder.stat(follow_symlinks=False).st_mtime
                    yield Entry(ref, size_below(folder.path), used, manifest_text(folder.path))

    def folders(self) -> Iterator[tuple[ArtifactRef, os.DirEntry[str]]]:
        """The folder of each artifact, by kind and key, even without a manifest. No link is followed."""
        if is_folder(self.root / "artifacts"):
            for folder in folders_in(f"{self.root}/artifacts"):
                yield from self._folders_of(folder.name)

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """The text of an artifact's manifest; empty where there is none."""
        return manifest_text(str(self.folder(ref)))

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""
        return size_below(self.root / folder)

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
        manifest = manifest_for(ref, draft, stage=stage, record=record, provenance=provenance, seconds=seconds)
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
        return self.open(ref)

    def set_aside(self, ref: ArtifactRef) -> None:
        """Move a damaged artifact to `damaged/`."""
        damaged = self.root / "damaged"
        with store_errors(damaged), suppress(FileNotFoundError):  # Another worker was faster.
            damaged.mkdir(parents=True, exist_ok=True)
            self.folder(ref).rename(damaged / f"{ref.kind}-{ref.key}-{time.time_ns()}")

    def note_use(self, ref: ArtifactRef) -> bool:
        """Set the folder's time, which says when it was last used, to now; return whether the folder is still there."""
        try:
            os.utime(self.folder(ref))
        except FileNotFoundError:  # Removed as garbage just now.
            return False
        except OSError:  # The folder is another user's, or on a read-only disk.
            pass
        return True

    def partial(self, ref: ArtifactRef) -> Path:
        """The folder of a stage's unfinished work, which another machine can go on with."""
        return self.root / "partial" / ref.key

    def partial_bucket(self, _ref: ArtifactRef, /) -> None:
        """Return None: other machines see the folder of a stage's unfinished work."""

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work."""
        clear_away(self.partial(ref))

    @property
    def pieces(self) -> FolderPieces:
        """Everything that may be garbage, removed by way of `trash/`."""
        return FolderPieces(self.root)

    def documents(self, folder: str) -> Documents:
        """The documents in a folder of the store."""
        return FolderDocuments(self.root / folder)

    def report(self, pipeline: str) -> Path:
        """Where the page of a pipeline is, or will be."""
        return self.root / "reports" / f"{pipeline_id(pipeline)}.html"

    def share_report(self, pipeline: str) -> None:
        """Do nothing: other machines see the page of a pipeline where it was written."""

    def keeps_first(self) -> bool:
        """Whether the first commit wins: a rename never takes the place of a folder that has files."""
        return True

    def check_writable(self) -> None:
        """Write and remove a small file."""
        with store_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as probe:
                probe.write(b"x")

    def _folders_of(self, kind: str) -> Iterator[tuple[ArtifactRef, os.DirEntry[str]]]:
        folder = self.root / "artifacts" / kind
        for group in folders_in(str(folder)) if is_folder(folder) else ():
            for artifact in folders_in(group.path):
                with suppress(ValidationError):  # Not an artifact's folder.
                    ref = ArtifactRef(kind=kind, key=artifact.name)
                    if ref.key[:2] == group.name:
                        yield ref, artifact
