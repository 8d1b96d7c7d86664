"""Artifacts: finished results, each a folder of files and a manifest, and where they lie in a store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.store.manifest import Manifest

logger = logging.getLogger(__name__)


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


def place_of(ref: ArtifactRef) -> str:
    """Where an artifact lies below the root of a store, and how the names of its objects begin."""
    return f"artifacts/{ref.kind}/{ref.key[:2]}/{ref.key}"


def missing(ref: ArtifactRef, store: object) -> ArtifactMissing:
    """The error that says that a store has no artifact of a key."""
    return ArtifactMissing(f"no artifact {ref.kind}/{ref.short_key} in {store}: run 'distill submit' again")


def if_whole(
    ref: ArtifactRef, read: Callable[[ArtifactRef], Artifact], set_aside: Callable[[ArtifactRef], None]
) -> Artifact | None:
    """The artifact of a key as `read` returns it; None if it is missing or damaged: a damaged one is set aside."""
    try:
        return read(ref)
    except ArtifactMissing:
        return None
    except ArtifactDamaged as error:
        logger.warning("%s: the artifact is set aside, to be made again", error)
        set_aside(ref)
        return None
