"""The artifact store: whole or absent, verified, never overwritten."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, store_errors
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.files.folders import clear_away, draft_folder, folders_in, found_in, is_folder, size_below
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.spelling import pipeline_id

MANIFEST = "manifest.json"
#: Largest manifest that is read: of a data set of a million classes.
MOST_MANIFEST_BYTES = 64_000_000

logger = logging.getLogger(__name__)

#: A file's name within an artifact: never a path.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
#: What tells that a file is the one that was verified: size, time of change in ns, inode.
Stamp = tuple[int, int, int]


class FileEntry(Frozen):
    """A file of an artifact."""

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Provenance(Frozen):
    """Where and with what an artifact was made."""

    host: str
    device: str
    versions: dict[str, str]


class Manifest(Frozen):
    """What an artifact is; written last, so an artifact with a manifest is whole."""

    format: Literal[1] = 1
    kind: str
    key: str
    #: None for a checkpoint, which no stage made.
    stage: Stage | None
    files: dict[FileName, FileEntry]
    record: Record | None
    provenance: Provenance
    #: Seconds that making it took.
    seconds: float
    #: Seconds since the epoch.
    created: float
    #: SHA-256 of all the rest, so that an altered manifest is found like an altered file.
    checksum: str = ""

    def sealed(self) -> Manifest:
        """The manifest with its checksum."""
        return self.model_copy(update={"checksum": self._checksum()})

    @property
    def whole(self) -> bool:
        """Whether it is as it was sealed."""
        return self.checksum == self._checksum()

    def _checksum(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


def is_sealed(manifest: str) -> bool:
    """Whether the text of a manifest, of this version or another, is as it was sealed."""
    # As it was written but for the white space outside of strings: numbers keep their digits.
    compact = re.sub(r'("(?:[^"\\]|\\.)*"?)|\s+', lambda match: match[1] or "", manifest)
    content, _, checksum = compact.rpartition(',"checksum":')
    return checksum == f'"{hashlib.sha256((content + "}").encode()).hexdigest()}"}}'


@dataclass(frozen=True, slots=True)
class Artifact:
    """A finished result: a folder of files and its manifest."""

    folder: Path
    manifest: Manifest

    @property
    def record(self) -> Record:
        """The record of the stage that made it.

        Raises:
            ArtifactDamaged: there is none.
        """
        if self.manifest.record is None:
            raise ArtifactDamaged(f"{self.folder}: its manifest has no record")
        return self.manifest.record

    def path(self, name: str) -> Path:
        """The path of one of its files.

        Raises:
            ArtifactDamaged: the manifest lists no such file.

        """
        if name not in self.manifest.files:
            raise ArtifactDamaged(f"{self.folder}: no file '{name}' in its manifest")
        return self.folder / name


@dataclass(frozen=True, slots=True)
class Entry:
    """What a listing of the store says of an artifact, whole or not."""

    ref: ArtifactRef
    size_bytes: int
    #: Seconds since the epoch of its last use by a worker.
    used: float
    #: The text of its manifest; empty where there is none.
    manifest: bytes


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
                    yield Entry(ref, size_below(folder.path), used, _manifest_text(folder.path))

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """What others read as an artifact's manifest; empty where there is none."""
        return _manifest_text(str(self.folder(ref)))

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
                files={path.name: _seal(path) for path in found_in(draft) if path.name != MANIFEST},
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
            _fsync(folder.parent)

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
            if _sha256(path) != entry.sha256:
                raise ArtifactDamaged(f"{path}: altered: its SHA-256 is not the one in the manifest")
        self._verified[path] = stamp


def place_of(ref: ArtifactRef) -> str:
    """Where an artifact lies below the root of a store, and how the names of its objects begin."""
    return f"artifacts/{ref.kind}/{ref.key[:2]}/{ref.key}"


def manifest_of(ref: ArtifactRef, text: bytes, place: object) -> Manifest:
    """The manifest of a key that was read at a place.

    Raises:
        ArtifactDamaged: it cannot be read, was altered, or is that of another artifact.

    """
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError:
        raise ArtifactDamaged(f"{place}/{MANIFEST}: not a manifest of this version") from None
    if not _as_sealed(manifest, text.decode(errors="replace")):
        raise ArtifactDamaged(f"{place}/{MANIFEST}: altered: its checksum is not right")
    if (manifest.kind, manifest.key) != (ref.kind, ref.key):
        raise ArtifactDamaged(f"{place}: the manifest belongs to {manifest.kind}/{manifest.key[:8]}")
    return manifest


def _as_sealed(manifest: Manifest, text: str) -> bool:
    """Whether the text of a manifest is as it was sealed, by this version or by one that has other fields besides."""
    # What this version writes is a tenth of the work to look at.
    return (manifest.whole and text == _text_of(manifest)) or is_sealed(text)


def file_of(pipeline: str, folder: Path, suffix: str) -> Path:
    """The file of a pipeline in a folder, and in no other.

    Raises:
        UnknownPipeline: no pipeline has such an id.

    """
    return folder / f"{pipeline_id(pipeline)}{suffix}"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a draft's manifest, its last file, and bring both to the disk."""
    (folder / MANIFEST).write_text(_text_of(manifest), encoding="utf-8")
    _fsync(folder / MANIFEST)
    _fsync(folder)


def _manifest_text(folder: str) -> bytes:
    """What lies in a folder as an artifact's manifest; empty where there is nothing."""
    path = f"{folder}/{MANIFEST}"
    with store_errors(path), suppress(FileNotFoundError, NotADirectoryError, NoFile):
        return read(path, MOST_MANIFEST_BYTES)
    return b""


def _text_of(manifest: Manifest) -> str:
    return manifest.model_dump_json(indent=1)


def _seal(path: Path) -> FileEntry:
    """Bring a file to the disk and describe it."""
    with store_errors(path):
        _fsync(path)
        return FileEntry(size_bytes=path.stat().st_size, sha256=_sha256(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
