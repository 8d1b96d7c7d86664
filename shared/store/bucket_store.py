"""The artifact store in an object store: every machine works on copies of its own, in a folder of limited size."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, StoreUnavailable, store_errors
from distill_queue.shared.files.bucket import Bucket, Facts
from distill_queue.shared.files.folders import clear_away, found_below, found_in, size_below
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact, Entry, place_of
from distill_queue.shared.store.folder_store import ArtifactStore
from distill_queue.shared.store.manifest import MANIFEST, Manifest, manifest_of, write_manifest

#: Seconds after its last use from which a copy may make room for others, whatever their size.
KEPT_SECONDS = 3_600.0
#: Share of the room for copies that is brought between two looks at how much they take.
LOOK_SHARE = 0.05
#: Seconds between two notes that an artifact is used.
NOTE_SECONDS = 86_400.0
#: Seconds after its last change at which unfinished work is of a worker that is gone, or goes on elsewhere.
IDLE_SECONDS = 86_400.0
#: Seconds that a worker's main process waits for an object store: it has its messages to renew.
HASTY_SECONDS = 5.0


def store_of(settings: Settings, *, patient: bool = True) -> ArtifactStore:
    """The store of some settings: a folder, or an object store behind one."""
    if not settings.is_remote:
        return ArtifactStore(settings.folder)
    objects = Bucket(settings.store) if patient else Bucket(settings.store, HASTY_SECONDS)
    return ObjectStore(objects, settings.folder, int(settings.cache_gb * 1e9))


class ObjectStore(ArtifactStore):
    """Artifacts in an object store, and copies of those that this machine has used.

    The files of a commit are objects below its manifest's checksum, and the manifest is written after them, only where
    there is none: so an artifact is whole or absent, and the first commit wins, whatever becomes of another's files. A
    copy has the artifact's own folder; a file is brought when it is first asked for, and verified like any file.
    """

    objects: Bucket

    def __init__(self, objects: Bucket, root: Path, cache_bytes: int) -> None:
        super().__init__(root)
        self.objects = objects
        self._cache_bytes = cache_bytes
        #: Bytes that this process may bring until it looks how much the copies take.
        self._until_look = 0
        #: When this process noted the use of an artifact.
        self._noted: dict[ArtifactRef, float] = {}

    def __str__(self) -> str:
        return self.objects.url

    def __contains__(self, ref: ArtifactRef) -> bool:
        return self.objects.exists(f"{place_of(ref)}/{MANIFEST}")

    def look(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key as it is in the object store now, all of its files there; brings none of them.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or of another length.

        """
        artifact, found = self._take_manifest(ref), self.objects.list(place_of(ref))
        for name, entry in artifact.manifest.files.items():
            place = _object_of(artifact.manifest, name)
            if place not in found:
                raise ArtifactDamaged(f"{self}/{place}: missing")
            if found[place].size_bytes != entry.size_bytes:
                raise ArtifactDamaged(f"{self}/{place}: {found[place].size_bytes:,} bytes long")
        return artifact

    def glance(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, with no look at its files: from this machine's copy, if there is one.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read.

        """
        try:
            return super().glance(ref)
        except (ArtifactMissing, ArtifactDamaged):
            return self._take_manifest(ref)

    def open(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, every file on this machine and as its manifest says.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or altered.

        """
        artifact = super().open(ref)
        super()._note_use(ref)  # It is not to make room for others just now.
        return artifact

    def verified(self, artifact: Artifact, name: str) -> Path:
        """The path of one of an artifact's files, which is as the manifest says; brought unless a copy is.

        Raises:
            ArtifactDamaged: it is missing, altered, or not one of its files.

        """
        try:
            return super().verified(artifact, name)
        except ArtifactDamaged:  # Not here yet, or altered here.
            with self._locked(artifact):
                with suppress(ArtifactDamaged):  # Another process has brought it meanwhile.
                    return super().verified(artifact, name)
                return self._bring(artifact, name)

    def brought(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files on this machine, all of them."""
        return self.open(ref).folder

    @contextmanager
    def reread(self, ref: ArtifactRef) -> Iterator[Artifact]:
        """The artifact of a key, once every byte in the object store was read; no copy stays that was not there.

        Raises:
            ArtifactMissing, ArtifactDamaged: as for `open`.

        """
        folder = self.folder(ref)
        with store_errors(folder):
            was_here = folder.exists()
        try:
            artifact = self._take_manifest(ref)
            with self._locked(artifact):
                for name in artifact.manifest.files:
                    self._bring(artifact, name)
            yield artifact
        finally:
            if not was_here:
                self._drop(ref)

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""
        return [ref for ref, found in self._listing(f"artifacts/{kind}") if f"{place_of(ref)}/{MANIFEST}" in found]

    def entries(self) -> Iterator[Entry]:
        """What there is of each artifact, by kind and key; of what lacks its manifest too."""
        used = {name.removeprefix("used/"): facts.written for name, facts in self.objects.list("used").items()}
        listing = list(self._listing("artifacts"))
        manifests = self.objects.read_all(
            [name for _, found in listing for name in found if name.endswith(f"/{MANIFEST}")]
        )
        for ref, found in listing:
            written = max(facts.written for facts in found.values())
            size = sum(facts.size_bytes for facts in found.values())
            text = manifests.get(f"{place_of(ref)}/{MANIFEST}", b"")
            yield Entry(ref, size, max(written, used.get(f"{ref.kind}/{ref.key}", 0.0)), text)

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """What others read as an artifact's manifest; empty where there is none."""
        return self.objects.read(f"{place_of(ref)}/{MANIFEST}") or b""

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""
        return sum(facts.size_bytes for facts in self.objects.list(folder).values())

    def unfinished(self, ref: ArtifactRef) -> Bucket | None:
        """Where other machines see a stage's unfinished work."""
        return self.objects.below(f"partial/{ref.key}")

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work, here and there."""
        super().forget_partial(ref)
        self.objects.remove_all(f"partial/{ref.key}")

    def set_aside(self, ref: ArtifactRef) -> None:
        """Take a damaged artifact's manifest away, and keep it; its files are garbage until they are written again."""
        if (text := self.manifest_text(ref)) and not self._is_of_a_later_commit(ref, text):
            self.objects.write(f"damaged/{ref.kind}-{ref.key}-{time.time_ns()}/{MANIFEST}", text)
            self.objects.remove(f"{place_of(ref)}/{MANIFEST}")
        self._drop(ref)

    def report(self, pipeline: str) -> Path:
        """Where the page of a pipeline is on this machine, brought from the object store if it is there.

        Raises:
            UnknownPipeline: no pipeline has such an id.

        """
        path = super().report(pipeline)
        with store_errors(path):
            is_here = path.is_file()
        if not is_here and (page := self.objects.read(f"reports/{path.name}")) is not None:
            with store_errors(path), self._fresh() as fresh:
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh.write_bytes(page)
                fresh.replace(path)
        return path

    def share_report(self, pipeline: str) -> None:
        """Let other machines see the page of a pipeline."""
        path = super().report(pipeline)
        self.objects.upload(path, f"reports/{path.name}")

    def check_writable(self) -> None:
        """Write and remove a small file on this machine, and a small object.

        Raises:
            StoreUnavailable: one cannot be written; the message says why.

        """
        super().check_writable()
        probe = f"probe-{time.time_ns()}"
        self.objects.create(probe, b"x")
        self.objects.remove(probe)

    def _settle(self, ref: ArtifactRef, draft: Path, manifest: Manifest) -> None:
        """Write a draft's files, then its manifest unless there is one; it becomes this machine's copy if it won."""
        for name in manifest.files:
            self.objects.upload(draft / name, _object_of(manifest, name))
        text = manifest.model_dump_json(indent=1).encode()
        if not self.objects.create(f"{place_of(ref)}/{MANIFEST}", text):
            self._take_manifest(ref)
            return
        self._make_room(sum(entry.size_bytes for entry in manifest.files.values()))
        self._drop(ref)
        with suppress(OSError):  # No room here, or another process has brought it meanwhile: it is where it has to be.
            write_manifest(draft, manifest)
            self.folder(ref).parent.mkdir(parents=True, exist_ok=True)
            draft.rename(self.folder(ref))

    def _take_manifest(self, ref: ArtifactRef) -> Artifact:
        """Bring a manifest as it is in the object store now; a copy of what was another one's is dropped."""
        folder, text = self.folder(ref), self.manifest_text(ref)
        if not text:
            self._drop(ref)
            raise self._missing(ref)
        manifest = manifest_of(ref, text, f"{self}/{place_of(ref)}")
        with store_errors(folder):
            path = folder / MANIFEST
            here = path.read_bytes() if path.is_file() else None
            if here != text:
                if here is not None:
                    self._drop(ref)
                with self._fresh() as fresh:
                    fresh.write_bytes(text)
                    folder.mkdir(parents=True, exist_ok=True)
                    fresh.replace(path)
        return Artifact(folder, manifest)

    def _is_of_a_later_commit(self, ref: ArtifactRef, text: bytes) -> bool:
        """Whether a manifest in the object store is none that this machine has found damaged."""
        try:
            manifest_of(ref, text, self)
        except ArtifactDamaged:
            return False
        here = self.folder(ref) / MANIFEST
        with store_errors(here):
            return not here.is_file() or here.read_bytes() != text

    def _bring(self, artifact: Artifact, name: str) -> Path:
        """Bring a file of an artifact, and verify it before it takes its place."""
        path, entry = artifact.path(name), artifact.manifest.files[name]
        place = _object_of(artifact.manifest, name)
        self._make_room(entry.size_bytes)
        with store_errors(path), self._fresh() as fresh:
            try:
                with fresh.open("wb") as file:
                    file.writelines(self.objects.blocks(place, entry.size_bytes))
                self._verify(fresh, entry)
            except ArtifactDamaged as error:
                raise ArtifactDamaged(f"{self}/{place}: {str(error).removeprefix(f'{fresh}: ')}") from None
            except ArtifactMissing as error:
                raise ArtifactDamaged(str(error)) from None
            self._verified[path] = self._verified.pop(fresh)
            path.parent.mkdir(parents=True, exist_ok=True)  # Another process may have made room.
            fresh.replace(path)
        return path

    def _note_use(self, ref: ArtifactRef) -> bool:
        now = time.time()
        if now - self._noted.get(ref, 0.0) > NOTE_SECONDS:
            self.objects.write(f"used/{ref.kind}/{ref.key}", b"")
            self._noted[ref] = now
        return super()._note_use(ref)

    def _listing(self, folder: str) -> Iterator[tuple[ArtifactRef, dict[str, Facts]]]:
        """The objects of each artifact below a folder."""
        found: dict[ArtifactRef, dict[str, Facts]] = {}
        for name, facts in self.objects.list(folder).items():
            with suppress(ValidationError, ValueError):  # None of ours.
                _, kind, _, key, _ = name.split("/", 4)
                found.setdefault(ArtifactRef(kind=kind, key=key), {})[name] = facts
        yield from found.items()

    def _make_room(self, size_bytes: int) -> None:
        """Drop the copies that were not used for the longest time, until the rest fits beside what is brought next."""
        self._until_look -= size_bytes
        if self._until_look > 0:
            return
        self._until_look = int(self._cache_bytes * LOOK_SHARE)
        self._sweep()
        copies: list[tuple[float, ArtifactRef, int]] = []
        for ref, folder in self.folders():
            with suppress(OSError, StoreUnavailable):  # Gone meanwhile, or closed to this user, who cannot drop it.
                copies.append((folder.stat().st_mtime, ref, size_below(folder.path)))
        room = self._cache_bytes - size_bytes - self._until_look
        for used, ref, size in sorted(copies, key=lambda copy: copy[0], reverse=True):
            room -= size
            if room < 0 and used < time.time() - KEPT_SECONDS:
                self._drop(ref)

    def _sweep(self) -> None:
        """Remove what this machine's workers have left: half-brought files, and work that others have gone on with."""
        for path in (*found_in(self.root / "fresh"), *found_in(self.root / "partial")):
            with suppress(OSError, StoreUnavailable):  # Gone meanwhile, or another user's.
                if max(each.stat().st_mtime for each in (path, *found_below(path))) < time.time() - IDLE_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    @contextmanager
    def _locked(self, artifact: Artifact) -> Iterator[None]:
        """Alone among the processes of this machine that bring files of an artifact."""
        path = self.root / "fresh" / f"{artifact.manifest.key}.lock"
        with store_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """The path of a new file, which is removed at the end unless it was renamed."""
        path = self.root / "fresh" / f"{os.getpid()}-{secrets.token_hex(8)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _drop(self, ref: ArtifactRef) -> None:
        """Remove this machine's copy; who has one of its files open reads on."""
        clear_away(self.folder(ref))


def _object_of(manifest: Manifest, name: str) -> str:
    """The name of the object that a commit's file is."""
    return f"{place_of(ArtifactRef(kind=manifest.kind, key=manifest.key))}/{manifest.checksum}/{name}"
