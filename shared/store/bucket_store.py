"""The artifact store in a bucket: every machine works on copies of its own, in a folder of limited size."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, store_errors
from distill_queue.shared.files.bucket import Bucket, Facts
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.store.artifact import Artifact, Entry, if_whole, missing, place_of
from distill_queue.shared.store.bucket_pieces import BucketPieces
from distill_queue.shared.store.copies import Copies
from distill_queue.shared.store.documents import Documents
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, Manifest, Provenance, manifest_for, manifest_of, text_of

#: Seconds between two notes that an artifact is used.
NOTE_SECONDS = 86_400.0


class BucketStore:
    """An `ArtifactStore` in a bucket, with copies of those artifacts that this machine has used.

    A commit writes its files as objects below its manifest's checksum, then the manifest, only if there is none yet. So
    an artifact is whole or absent, and the first commit wins: the manifest never lists the files of another one. A copy
    lies in a folder like the artifact's own; each file is downloaded when it is first asked for, and verified like any
    other. The protocol says what the methods raise.
    """

    #: Each look is a request to the object store.
    seconds_between_looks = 10.0

    def __init__(self, bucket: Bucket, root: Path, cache_bytes: int) -> None:
        self.bucket = bucket
        #: What this machine has of the bucket, in the layout of a folder store.
        self._here = FolderStore(root)
        #: The folder of this machine's copies, and of its unfinished work.
        self.root = self._here.root
        self._copies = Copies(self._here, cache_bytes)
        #: When this process last noted the use of each artifact.
        self._noted: dict[ArtifactRef, float] = {}

    def __str__(self) -> str:
        return self.bucket.url

    def __contains__(self, ref: ArtifactRef) -> bool:
        return self.bucket.exists(f"{place_of(ref)}/{MANIFEST}")

    def find(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact of a key if all of its files are in the bucket; a damaged one is set aside, to be made again.

        No file of it is downloaded.
        """
        artifact = if_whole(ref, self._look, self.set_aside)
        return artifact if artifact and self._note_use(ref) else None

    def obtain(self, ref: ArtifactRef) -> Artifact | None:
        """The artifact of a key as `open` returns it; a damaged one is set aside, to be made again."""
        artifact = if_whole(ref, self.open, self.set_aside)
        return artifact if artifact and self._note_use(ref) else None

    def open(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, every file on this machine and as its manifest says."""
        artifact = self.glance(ref)
        for name in artifact.manifest.files:
            self.verified(artifact, name)
        self._here.note_use(ref)  # So that its copy is not dropped soon.
        return artifact

    def glance(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, without a look at its files: from this machine's copy, if there is one."""
        try:
            return self._here.glance(ref)
        except (ArtifactMissing, ArtifactDamaged):
            return self._bring_manifest(ref)

    @contextmanager
    def reread(self, ref: ArtifactRef) -> Iterator[Artifact]:
        """The artifact of a key, after every byte in the bucket was read; leaves no copy that was not there before."""
        folder = self.folder(ref)
        with store_errors(folder):
            was_here = folder.exists()
        try:
            artifact = self._bring_manifest(ref)
            with self._copies.locked(ref):
                for name in artifact.manifest.files:
                    self._bring(artifact, name)
            yield artifact
        finally:
            if not was_here:
                self._copies.drop(ref)

    def verified(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is as the manifest says; downloaded unless the copy has it."""
        artifact.path(name)
        try:
            return self._here.verified(artifact, name)
        except ArtifactDamaged:  # Not here yet, or altered here.
            with self._copies.locked(artifact.manifest.ref):
                with suppress(ArtifactDamaged):  # Another process has brought it meanwhile.
                    return self._here.verified(artifact, name)
                return self._bring(artifact, name)

    def local_file(self, artifact: Artifact, name: str) -> Path:
        """As `verified`: a file that is not on this machine is downloaded."""
        return self.verified(artifact, name)

    def local_folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files on this machine, all of them; raises like `open`."""
        return self.open(ref).folder

    def folder(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's copy, which need not exist yet."""
        return self._here.folder(ref)

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""
        return [ref for ref, found in self._listing(f"artifacts/{kind}") if f"{place_of(ref)}/{MANIFEST}" in found]

    def entries(self) -> Iterator[Entry]:
        """An entry for each artifact, by kind and key, and for remains of artifacts without a manifest."""
        used = {name.removeprefix("used/"): facts.written for name, facts in self.bucket.list("used").items()}
        listing = list(self._listing("artifacts"))
        manifests = self.bucket.read_all(
            [name for _, found in listing for name in found if name.endswith(f"/{MANIFEST}")]
        )
        for ref, found in listing:
            written = max(facts.written for facts in found.values())
            size = sum(facts.size_bytes for facts in found.values())
            text = manifests.get(f"{place_of(ref)}/{MANIFEST}", b"")
            yield Entry(ref, size, max(written, used.get(f"{ref.kind}/{ref.key}", 0.0)), text)

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """The text of an artifact's manifest in the bucket; empty where there is none."""
        return self.bucket.read(f"{place_of(ref)}/{MANIFEST}") or b""

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""
        return sum(facts.size_bytes for facts in self.bucket.list(folder).values())

    def draft(self, ref: ArtifactRef) -> AbstractContextManager[Path]:
        """A new empty folder on this machine to write an artifact's files into; what is not committed is removed."""
        return self._here.draft(ref)

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
        """Write a draft's files, then its manifest unless there is one: then the draft becomes this machine's copy."""
        manifest = manifest_for(ref, draft, stage=stage, record=record, provenance=provenance, seconds=seconds)
        for name in manifest.files:
            self.bucket.upload(draft / name, _object_of(manifest, name))
        if self.bucket.create(f"{place_of(ref)}/{MANIFEST}", text_of(manifest).encode()):
            self._copies.take(ref, draft, manifest)
        else:
            self._bring_manifest(ref)
        return self.open(ref)

    def set_aside(self, ref: ArtifactRef) -> None:
        """Move a damaged artifact's manifest to `damaged/`; its files are garbage until they are written again."""
        if (text := self.manifest_text(ref)) and not self._is_of_a_later_commit(ref, text):
            self.bucket.write(f"damaged/{ref.kind}-{ref.key}-{time.time_ns()}/{MANIFEST}", text)
            self.bucket.remove(f"{place_of(ref)}/{MANIFEST}")
        self._copies.drop(ref)

    def partial(self, ref: ArtifactRef) -> Path:
        """The folder of a stage's unfinished work on this machine."""
        return self._here.partial(ref)

    def partial_bucket(self, ref: ArtifactRef) -> Bucket | None:
        """Where other machines see a stage's unfinished work."""
        return self.bucket.below(f"partial/{ref.key}")

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work, here and in the bucket."""
        self._here.forget_partial(ref)
        self.bucket.remove_all(f"partial/{ref.key}")

    @property
    def pieces(self) -> BucketPieces:
        """Everything that may be garbage in the bucket."""
        return BucketPieces(self.bucket, self.entries)

    def documents(self, folder: str) -> Documents:
        """The documents in a folder of the store: objects of the bucket."""
        return self.bucket.below(folder)

    def report(self, pipeline: str) -> Path:
        """The path of a pipeline's page on this machine, downloaded if only the bucket has the page."""
        path = self._here.report(pipeline)
        with store_errors(path):
            is_here = path.is_file()
        if not is_here and (page := self.bucket.read(f"reports/{path.name}")) is not None:
            self._copies.keep(path, page)
        return path

    def share_report(self, pipeline: str) -> None:
        """Let other machines see the page of a pipeline."""
        path = self._here.report(pipeline)
        self.bucket.upload(path, f"reports/{path.name}")

    def keeps_first(self) -> bool:
        """Whether the first commit wins: tried with an object."""
        return self.bucket.keeps_first()

    def check_writable(self) -> None:
        """Write and remove a small file on this machine, and a small object."""
        self._here.check_writable()
        probe = f"probe-{time.time_ns()}"
        self.bucket.create(probe, b"x")
        self.bucket.remove(probe)

    def _look(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key as it is in the bucket now, if all of its files are there; downloads none of them.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or of another length.

        """
        artifact, found = self._bring_manifest(ref), self.bucket.list(place_of(ref))
        for name, entry in artifact.manifest.files.items():
            place = _object_of(artifact.manifest, name)
            if place not in found:
                raise ArtifactDamaged(f"{self}/{place}: missing")
            if found[place].size_bytes != entry.size_bytes:
                raise ArtifactDamaged(f"{self}/{place}: {found[place].size_bytes:,} bytes long")
        return artifact

    def _bring_manifest(self, ref: ArtifactRef) -> Artifact:
        """Download the manifest that is in the bucket now; drop a copy of files that belong to another manifest."""
        text = self.manifest_text(ref)
        if not text:
            self._copies.drop(ref)
            raise missing(ref, self)
        manifest = manifest_of(ref, text, f"{self}/{place_of(ref)}")
        self._copies.keep_manifest(ref, text)
        return Artifact(self.folder(ref), manifest)

    def _bring(self, artifact: Artifact, name: str) -> Path:
        """Download a file of an artifact into this machine's copy."""
        place, entry = _object_of(artifact.manifest, name), artifact.manifest.files[name]
        try:
            return self._copies.bring(
                artifact.path(name), entry, self.bucket.blocks(place, entry.size_bytes), f"{self}/{place}"
            )
        except ArtifactMissing as error:
            raise ArtifactDamaged(str(error)) from None

    def _is_of_a_later_commit(self, ref: ArtifactRef, text: bytes) -> bool:
        """Whether a manifest in the bucket is valid, and not that of this machine's copy, which was found damaged."""
        try:
            manifest_of(ref, text, self)
        except ArtifactDamaged:
            return False
        here = self.folder(ref) / MANIFEST
        with store_errors(here):
            return not here.is_file() or here.read_bytes() != text

    def _note_use(self, ref: ArtifactRef) -> bool:
        """Note in the bucket and here that an artifact is used; return whether its copy's folder is still there."""
        now = time.time()
        if now - self._noted.get(ref, 0.0) > NOTE_SECONDS:
            self.bucket.write(f"used/{ref.kind}/{ref.key}", b"")
            self._noted[ref] = now
        return self._here.note_use(ref)

    def _listing(self, folder: str) -> Iterator[tuple[ArtifactRef, dict[str, Facts]]]:
        """The objects of each artifact below a folder."""
        found: dict[ArtifactRef, dict[str, Facts]] = {}
        for name, facts in self.bucket.list(folder).items():
            with suppress(ValidationError, ValueError):  # Not an artifact's object.
                _, kind, _, key, _ = name.split("/", 4)
                found.setdefault(ArtifactRef(kind=kind, key=key), {})[name] = facts
        yield from found.items()


def _object_of(manifest: Manifest, name: str) -> str:
    """The name of the object that holds a file of a commit."""
    return f"{place_of(manifest.ref)}/{manifest.checksum}/{name}"
