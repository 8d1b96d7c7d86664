"""The artifact store's protocol: artifacts are whole or absent, verified, never overwritten; and a settings' store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact, Entry
from distill_queue.shared.store.bucket_store import BucketStore
from distill_queue.shared.store.documents import Documents
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.pieces import Pieces

#: Seconds that a worker's main process waits for a bucket: it must get back to renewing its messages.
HASTY_SECONDS = 5.0


class ArtifactStore(Protocol):
    """Artifacts by key; besides them unfinished work, documents that change, and pipelines' pages.

    `str` gives the store's place, for messages. Every method raises `StoreUnavailable` where the store cannot be read
    or written.
    """

    #: The folder on this machine: of the artifacts, or of copies of them.
    root: Path

    @property
    def seconds_between_looks(self) -> float:
        """Seconds to leave between two looks whether an artifact is there; 0 where a look costs next to nothing."""

    # Is it there?

    def __contains__(self, ref: ArtifactRef) -> bool:
        """Whether there is an artifact of a key, without a look at its files."""

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact of a key if it is whole for every machine; a damaged one is set aside, to be made again.

        Its files need not be on this machine.
        """

    def obtain(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact of a key as `open` gives it, if there is one; a damaged one is set aside, to be made again."""

    # Reading

    def open(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, every file on this machine and as its manifest says.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or altered.

        """

    def glance(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, without a look at its files: these may be missing, altered, or not on this machine.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read.

        """

    def reread(self, ref: ArtifactRef) -> AbstractContextManager[Artifact]:
        """The artifact of a key, after every byte was read that other machines would read.

        Raises:
            ArtifactMissing, ArtifactDamaged: as for `open`.

        """

    def verified(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is on this machine and as the manifest says.

        Raises:
            ArtifactDamaged: it is missing, altered, or not one of its files.

        """

    def local_file(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files on this machine; verified only if it has to be downloaded.

        Raises:
            ArtifactDamaged: it is not one of its files, or the downloaded file is damaged.

        """

    def local_folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files on this machine; verified only if they have to be downloaded.

        Raises:
            ArtifactMissing, ArtifactDamaged: as for `open`, if they have to be downloaded.

        """

    # Listing

    def folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact on this machine, which need not exist yet."""

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""

    def entries(self) -> Iterator[Entry]:
        """An entry for each artifact, by kind and key, and for remains of artifacts without a manifest."""

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """The text of an artifact's manifest, as other machines read it; empty where there is none."""

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""

    # Writing

    def draft(self, ref: ArtifactRef) -> AbstractContextManager[Path]:
        """A new empty folder to write an artifact's files into; what is not committed is removed."""

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
        """Make a draft the artifact of its key, durable when this returns; the first commit wins.

        Returns:
            The artifact of the commit that was first.

        Raises:
            ArtifactDamaged: another commit was first, and its files are missing or altered.

        """

    def set_aside(self, ref: ArtifactRef) -> None:
        """Take a damaged artifact away, so that it is made again; what was damaged is kept for a time."""

    def keeps_first(self) -> bool:
        """Whether the first of two commits of a key wins, as far as a trial can show."""

    def check_writable(self) -> None:
        """Write and remove something small.

        Raises:
            StoreUnavailable: the store cannot be written; the message says why.

        """

    # What is unfinished

    def partial(self, ref: ArtifactRef) -> Path:
        """The folder of a stage's unfinished work on this machine."""

    def partial_bucket(self, ref: ArtifactRef, /) -> Bucket | None:
        """Where other machines see a stage's unfinished work; None where they see its folder."""

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work, for all machines."""

    # What may be garbage

    @property
    def pieces(self) -> Pieces:
        """Everything that may be garbage, to be listed and removed."""

    # What changes

    def documents(self, folder: str) -> Documents:
        """The documents in a folder of the store, such as `pipelines`."""

    def report(self, pipeline: str) -> Path:
        """The path of a pipeline's page on this machine, which need not exist yet; downloaded if only others have it.

        Raises:
            UnknownPipeline: no pipeline has such an id.

        """

    def share_report(self, pipeline: str) -> None:
        """Let other machines see the page of a pipeline."""


def store_of(settings: Settings, *, patient: bool = True) -> ArtifactStore:
    """The store that settings name: a folder, or a bucket with copies in a folder; wait for it long if `patient`."""
    if not settings.is_remote:
        return FolderStore(settings.folder)
    bucket = Bucket(settings.store) if patient else Bucket(settings.store, HASTY_SECONDS)
    return BucketStore(bucket, settings.folder, int(settings.cache_gb * 1e9))
