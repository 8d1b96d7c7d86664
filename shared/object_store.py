"""The artifact store in an object store: every machine works on copies of its own, in a folder of limited size."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from shared.errors import ArtifactDamaged, ArtifactMissing, store_errors
from shared.objects import Facts, Objects
from shared.settings import Settings
from shared.stage import ArtifactRef
from shared.store import MANIFEST, Artifact, ArtifactStore, Entry, FileEntry, Manifest, manifest_of, write_manifest

#: Seconds after its last use from which a copy may make room for others, whatever their size.
KEPT_SECONDS = 3_600.0
#: Seconds between two looks at how much room the copies take, and between two notes that an artifact is used.
LOOK_SECONDS = 60.0
NOTE_SECONDS = 86_400.0


def store_of(settings: Settings) -> ArtifactStore:
    """The store of some settings: a folder, or an object store behind one."""
    if not settings.is_remote:
        return ArtifactStore(settings.folder)
    return ObjectStore(Objects(settings.store), settings.folder, int(settings.cache_gb * 1e9))


class ObjectStore(ArtifactStore):
    """Artifacts in an object store, and copies of those that this machine has used.

    The files of an artifact are objects that are named by their content, and its manifest is written after them, only
    where there is none: so an artifact is whole or absent, and the first commit wins. A copy has the artifact's own
    folder; a file is brought when it is first asked for, and verified like any file of a store.
    """

    objects: Objects

    def __init__(self, objects: Objects, root: Path, cache_bytes: int) -> None:
        super().__init__(root)
        self.objects = objects
        self._cache_bytes = cache_bytes
        self._looked = 0.0
        #: When this process noted the use of an artifact.
        self._noted: dict[ArtifactRef, float] = {}

    def __str__(self) -> str:
        return self.objects.url

    def __contains__(self, ref: ArtifactRef) -> bool:
        return self.objects.exists(f"{_place(ref)}/{MANIFEST}")

    def look(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key as it is in the object store now, all of its files there; brings none of them.

        Raises:
            ArtifactMissing: there is none.
            ArtifactDamaged: its manifest cannot be read, or a file is missing or of another length.

        """
        artifact, found = self._take_manifest(ref), self.objects.list(_place(ref))
        for name, entry in artifact.manifest.files.items():
            place = _place_of(ref, name, entry)
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

    def brought(self, ref: ArtifactRef) -> Path:
        """The folder of an artifact's files on this machine, all of them."""
        return self.open(ref).folder

    def reread(self, ref: ArtifactRef) -> Artifact:
        """The artifact of a key, once every byte in the object store was read; what was read becomes the copy.

        Raises:
            ArtifactMissing, ArtifactDamaged: as for `open`.

        """
        artifact = self._take_manifest(ref)
        for name, entry in artifact.manifest.files.items():
            self._take(artifact.folder / name, entry)
        return artifact

    def refs(self, kind: str) -> list[ArtifactRef]:
        """The artifacts of a kind, by key."""
        return [ref for ref, found in self._listing(f"artifacts/{kind}") if f"{_place(ref)}/{MANIFEST}" in found]

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
            text = manifests.get(f"{_place(ref)}/{MANIFEST}", b"")
            yield Entry(ref, size, max(written, used.get(f"{ref.kind}/{ref.key}", 0.0)), text)

    def manifest_text(self, ref: ArtifactRef) -> bytes:
        """What others read as an artifact's manifest; empty where there is none."""
        return self.objects.read(f"{_place(ref)}/{MANIFEST}") or b""

    def bytes_below(self, folder: str) -> int:
        """Bytes of what lies in a folder of the store, such as `partial`."""
        return sum(facts.size_bytes for facts in self.objects.list(folder).values())

    def unfinished(self, ref: ArtifactRef) -> Objects | None:
        """Where other machines see a stage's unfinished work."""
        return self.objects.below(f"partial/{ref.key}")

    def forget_partial(self, ref: ArtifactRef) -> None:
        """Remove a stage's unfinished work, here and there."""
        super().forget_partial(ref)
        self.objects.remove_all(f"partial/{ref.key}")

    def set_aside(self, ref: ArtifactRef) -> None:
        """Take a damaged artifact's manifest away, and keep it; its files are garbage until they are written again."""
        if text := self.manifest_text(ref):
            self.objects.write(f"damaged/{ref.kind}-{ref.key}-{time.time_ns()}/{MANIFEST}", text)
            self.objects.remove(f"{_place(ref)}/{MANIFEST}")
        self._drop(ref)

    def report(self, pipeline: str) -> Path:
        """Where the page of a pipeline is on this machine, brought from the object store if it is there.

        Raises:
            UnknownPipeline: no pipeline has such an id.

        """
        path = super().report(pipeline)
        if not path.is_file() and (page := self.objects.read(f"reports/{path.name}")) is not None:
            with store_errors(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(page)
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
        for name, entry in manifest.files.items():
            self.objects.upload(draft / name, _place_of(ref, name, entry))
        text = manifest.model_dump_json(indent=1).encode()
        self._drop(ref)
        if self.objects.create(f"{_place(ref)}/{MANIFEST}", text):
            with suppress(FileExistsError, OSError):  # Another process has brought it here meanwhile.
                write_manifest(draft, manifest)
                self.folder(ref).parent.mkdir(parents=True, exist_ok=True)
                draft.rename(self.folder(ref))
            self._make_room()

    def _take_manifest(self, ref: ArtifactRef) -> Artifact:
        """Bring a manifest as it is in the object store now; a copy of what was another one's is dropped."""
        folder, text = self.folder(ref), self.manifest_text(ref)
        if not text:
            self._drop(ref)
            raise self._missing(ref)
        manifest = manifest_of(ref, text, f"{self}/{_place(ref)}")
        with store_errors(folder):
            path = folder / MANIFEST
            if not path.is_file() or path.read_bytes() != text:
                self._drop(ref)
                folder.mkdir(parents=True, exist_ok=True)
                with self._fresh() as fresh:
                    fresh.write_bytes(text)
                    fresh.replace(path)
        return Artifact(folder, manifest)

    def _verify(self, path: Path, entry: FileEntry) -> None:
        try:
            super()._verify(path, entry)
        except ArtifactDamaged:  # Not here yet, or altered here.
            self._take(path, entry)

    def _take(self, path: Path, entry: FileEntry) -> None:
        """Bring a file of an artifact, and verify it before it takes its place."""
        folder = path.parent
        place = f"{folder.relative_to(self.root)}/{entry.sha256}/{path.name}"
        with store_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            with self._fresh() as fresh:
                try:
                    with fresh.open("wb") as file:
                        file.writelines(self.objects.blocks(place, entry.size_bytes))
                    super()._verify(fresh, entry)
                except ArtifactDamaged as error:
                    raise ArtifactDamaged(f"{self}/{place}: {str(error).removeprefix(f'{fresh}: ')}") from None
                except ArtifactMissing as error:
                    raise ArtifactDamaged(str(error)) from None
                self._verified[path] = self._verified.pop(fresh)
                folder.mkdir(parents=True, exist_ok=True)  # Another process may have made room.
                fresh.replace(path)
        self._make_room()

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

    def _make_room(self) -> None:
        """Drop the copies that were not used for the longest time, until the rest fits."""
        if time.monotonic() < self._looked + LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        for fresh in (self.root / "fresh").glob("*"):
            with suppress(FileNotFoundError):
                if fresh.stat().st_mtime < time.time() - NOTE_SECONDS:  # Of a process that was killed.
                    fresh.unlink()
        copies = sorted(super().entries(), key=lambda entry: entry.used, reverse=True)
        room = self._cache_bytes
        for copy in copies:
            room -= copy.size_bytes
            if room < 0 and copy.used < time.time() - KEPT_SECONDS:
                self._drop(copy.ref)

    @contextmanager
    def _fresh(self) -> Iterator[Path]:
        """A new file, removed at the end unless it was renamed."""
        folder = self.root / "fresh"
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        try:
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _drop(self, ref: ArtifactRef) -> None:
        """Remove this machine's copy; who has one of its files open reads on."""
        shutil.rmtree(self.folder(ref), ignore_errors=True)


def _place(ref: ArtifactRef) -> str:
    """How the names of an artifact's objects begin."""
    return f"artifacts/{ref.kind}/{ref.key[:2]}/{ref.key}"


def _place_of(ref: ArtifactRef, name: str, entry: FileEntry) -> str:
    return f"{_place(ref)}/{entry.sha256}/{name}"
