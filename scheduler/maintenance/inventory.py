"""The inventory of a store: every artifact, whole or not, and whether it is what its manifest says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.catalog import STAGE_KINDS, did_you_mean
from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, InvalidSettings, StoreUnavailable
from distill_queue.shared.files.given_file import shown
from distill_queue.shared.line import shortened
from distill_queue.shared.plan.recipes import Labels
from distill_queue.shared.plan.stage import SHORTEST_KEY, ArtifactRef, checkpoint_ref, label_file_ref
from distill_queue.shared.store.artifact import Artifact, Entry
from distill_queue.shared.store.manifest import Manifest, is_sealed
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.shared.text import plain_line

#: Titles of artifacts that no stage made.
GIVEN = {"checkpoint": "given weights", "label_file": "given labels"}
#: Kinds in the order in which they are listed.
ORDER = (*GIVEN, *STAGE_KINDS)
#: Seconds since the epoch that a manifest may name, up to the year 2096.
LATEST = 4e9


@dataclass(frozen=True, slots=True)
class Holding:
    """An artifact, as its manifest of this or another version describes it; None or "" for what the manifest lacks."""

    ref: ArtifactRef
    title: str
    size_bytes: int
    #: Seconds since the epoch, of its making and of its last use by a worker.
    created: float | None
    used: float
    host: str
    #: Seconds that making it took.
    seconds: float | None
    #: Ids of the pipelines that need it.
    pipelines: tuple[str, ...]

    @property
    def facts(self) -> dict[str, Any]:
        """The holding as JSON has it."""
        return {
            "kind": self.ref.kind,
            "key": self.ref.key,
            "title": self.title,
            "size_bytes": self.size_bytes,
            "created": self.created,
            "used": self.used,
            "host": self.host,
            "seconds": self.seconds,
            "pipelines": list(self.pipelines),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of reading an artifact to the last byte."""

    ref: ArtifactRef
    state: Literal["whole", "damaged", "unreadable", "of another version"]
    #: What is wrong; for a whole artifact, what is missing to make it again.
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether the artifact is unusable; one of another version is not bad."""
        return self.state in ("damaged", "unreadable")


def holdings(store: ArtifactStore, needed: NeededArtifacts, kind: str | None = None) -> list[Holding]:
    """The artifacts of a store, or those of one kind, by kind and then by age.

    Raises:
        InvalidSettings: there is no such kind.

    """
    if kind is not None and kind not in ORDER:
        raise InvalidSettings(f"--kind: unknown kind '{shortened(kind, 60)}'{did_you_mean(kind, ORDER)}")
    found = [_holding(entry, needed) for entry in store.entries() if kind in (None, entry.ref.kind)]
    place = {name: number for number, name in enumerate(ORDER)}
    return sorted(found, key=lambda each: (place.get(each.ref.kind, len(place)), each.created or 0.0))


def named(store: ArtifactStore, names: Sequence[str]) -> list[tuple[ArtifactRef, int]]:
    """The artifacts whose keys begin with one of some names, and their bytes; all without names.

    Raises:
        InvalidSettings: no key begins with a name, or a name is too short.

    """
    known = [(entry.ref, entry.size_bytes) for entry in store.entries()]
    for name in names:
        if len(name) < SHORTEST_KEY:
            raise InvalidSettings(f"{shown(name)}: give at least {SHORTEST_KEY} characters of a key")
        if not any(ref.key.startswith(name) for ref, _ in known):
            raise InvalidSettings(f"{shown(name)}: no key in {store} begins so: 'distill store ls' lists them")
    return [(ref, size) for ref, size in known if not names or ref.key.startswith(tuple(names))]


def verdict_on(store: ArtifactStore, ref: ArtifactRef) -> Verdict | None:
    """Read an artifact to the last byte, changing nothing; None if it is gone."""
    try:
        with store.reread(ref) as artifact:
            stage = artifact.manifest.stage
            if stage and stage.ref != ref:
                raise ArtifactDamaged(f"{artifact.folder}: its stage is {stage.kind}/{stage.ref.short_key}")
            if stage and isinstance(stage.recipe, Labels):
                from distill_queue.shared.soft_labels.cache import SoftLabels  # Loads NumPy: not for listings.

                SoftLabels.open(artifact.folder).verify()
            if not _of_this_version(artifact, ref):
                return Verdict(ref, "of another version", "whole, but this version would give it another key")
    except ArtifactMissing:
        return None
    except ArtifactDamaged as error:
        if _sealed_otherwise(store.manifest_text(ref)):
            return Verdict(ref, "of another version", "its manifest is whole; what it lists was not read")
        return Verdict(ref, "damaged", str(error))
    except StoreUnavailable as error:
        return Verdict(ref, "unreadable", str(error))
    return Verdict(ref, "whole", _missing_inputs(artifact.manifest, store))


def _holding(entry: Entry, needed: NeededArtifacts) -> Holding:
    ref, facts = entry.ref, _read(entry.manifest)
    stage, provenance = _part(facts, "stage"), _part(facts, "provenance")
    created, seconds = (_number(facts.get(name)) for name in ("created", "seconds"))
    return Holding(
        ref=ref,
        title=intern(
            plain_line(str(stage.get("title") or GIVEN.get(ref.kind, "") if facts else "its manifest cannot be read"))
        ),
        size_bytes=entry.size_bytes,
        created=created,
        used=entry.used,
        host=intern(plain_line(str(provenance.get("host", "")))),  # Thousands of artifacts have the same few.
        seconds=seconds,
        pipelines=needed.pipelines.get(ref.key, ()),
    )


def _read(manifest: bytes) -> dict[str, Any]:
    """A manifest's facts; empty if it cannot be read."""
    try:
        facts = from_json(manifest)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _part(facts: dict[str, Any], name: str) -> dict[str, Any]:
    part = facts.get(name)
    return part if isinstance(part, dict) else {}


def _number(value: object) -> float | None:
    """A number of seconds that a clock can show; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= LATEST else None


def _of_this_version(artifact: Artifact, ref: ArtifactRef) -> bool:
    """Whether this version would give the artifact's stage the same key."""
    if artifact.manifest.stage:
        return artifact.manifest.stage.of_this_version
    given = {"checkpoint": checkpoint_ref, "label_file": label_file_ref}.get(ref.kind)
    return given is not None and all(given(artifact.path(name)) == ref for name in artifact.manifest.files)


def _sealed_otherwise(manifest: bytes) -> bool:
    """Whether a manifest is whole, though this version cannot read it."""
    try:
        Manifest.model_validate_json(manifest)
    except ValidationError:
        return is_sealed(manifest.decode(errors="replace"))
    return False


def _missing_inputs(manifest: Manifest, store: ArtifactStore) -> str:
    """The inputs that the store lacks, in words: they are made again when a stage needs them."""
    inputs = manifest.stage.inputs if manifest.stage else {}
    missing = dict.fromkeys(f"{ref.kind}/{ref.short_key}" for ref in inputs.values() if ref not in store)
    return f"without its input {', '.join(missing)}" if missing else ""
