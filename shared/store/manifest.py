"""Manifests: what an artifact is, sealed with a checksum, and how it is written, read and compared with files."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from distill_queue.shared.errors import ArtifactDamaged, store_errors
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.files.folders import found_in
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.stage_record import Record

MANIFEST = "manifest.json"
#: Largest manifest that is read: of a data set of a million classes.
MOST_MANIFEST_BYTES = 64_000_000

#: A file's name within an artifact: never a path.
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


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

    @property
    def ref(self) -> ArtifactRef:
        """The kind and key of the artifact."""
        return ArtifactRef(kind=self.kind, key=self.key)

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
    # Without white space outside of strings, else as it was written: numbers keep their digits.
    compact = re.sub(r'("(?:[^"\\]|\\.)*"?)|\s+', lambda match: match[1] or "", manifest)
    content, _, checksum = compact.rpartition(',"checksum":')
    return checksum == f'"{hashlib.sha256((content + "}").encode()).hexdigest()}"}}'


def manifest_of(ref: ArtifactRef, text: bytes, place: object) -> Manifest:
    """The manifest of an artifact, from its text; `place` is where the text was read, for messages.

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
    # To recognise what this version writes takes a tenth of the time.
    return (manifest.whole and text == text_of(manifest)) or is_sealed(text)


def manifest_for(
    ref: ArtifactRef,
    draft: Path,
    *,
    stage: Stage | None,
    record: Record | None,
    provenance: Provenance,
    seconds: float,
) -> Manifest:
    """Bring a draft's files to the disk, and return their sealed manifest.

    Raises:
        StoreUnavailable: a file cannot be read or synced.

    """
    return Manifest(
        kind=ref.kind,
        key=ref.key,
        stage=stage,
        # A draft whose commit was refused has a manifest already.
        files={path.name: _entry_of(path) for path in found_in(draft) if path.name != MANIFEST},
        record=record,
        provenance=provenance,
        seconds=seconds,
        created=time.time(),
    ).sealed()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write a draft's manifest, its last file, and bring both to the disk."""
    (folder / MANIFEST).write_text(text_of(manifest), encoding="utf-8")
    fsync(folder / MANIFEST)
    fsync(folder)


def manifest_text(folder: str) -> bytes:
    """The text of the manifest in an artifact's folder; empty if there is none."""
    path = f"{folder}/{MANIFEST}"
    with store_errors(path), suppress(FileNotFoundError, NotADirectoryError, NoFile):
        return read(path, MOST_MANIFEST_BYTES)
    return b""


def text_of(manifest: Manifest) -> str:
    """A manifest as it is written."""
    return manifest.model_dump_json(indent=1)


def _entry_of(path: Path) -> FileEntry:
    """Bring a file to the disk and describe it."""
    with store_errors(path):
        fsync(path)
        return FileEntry(size_bytes=path.stat().st_size, sha256=sha256_of(path))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
