"""The store: whole or absent, verified, never overwritten."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, StoreUnavailable
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance

HERE = Provenance(host="here", device="cpu", versions={})


def commit(store: FolderStore, stage: Stage, content: str = "content") -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text(content)
        record = WeightsRecord(parameters=1)
        return store.commit(stage.ref, draft, stage=stage, record=record, provenance=HERE, seconds=1.0)


def test_what_is_committed_is_found_with_its_record(store: FolderStore, stage: Stage) -> None:
    commit(store, stage)

    artifact = store.open(stage.ref)

    assert stage.ref in store
    assert artifact.manifest.stage == stage
    assert artifact.path("file").read_text() == "content"


def test_what_is_not_committed_is_not_there(store: FolderStore, stage: Stage) -> None:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text("half")

    assert stage.ref not in store
    assert store.find(stage.ref) is None
    assert list((store.root / "partial").iterdir()) == []
    with pytest.raises(ArtifactMissing, match=stage.ref.short_key):
        store.open(stage.ref)


def test_the_first_commit_wins(store: FolderStore, stage: Stage) -> None:
    commit(store, stage, "first")

    again = commit(store, stage, "second")

    assert again.path("file").read_text() == "first"


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest"])
def test_a_damaged_artifact_is_found_and_set_aside(store: FolderStore, stage: Stage, damage: str) -> None:
    artifact = commit(store, stage)
    match damage:
        case "truncate":
            os.truncate(artifact.folder / "file", 3)
        case "remove":
            (artifact.folder / "file").unlink()
        case _:
            (artifact.folder / "manifest.json").write_text("{}")

    with pytest.raises(ArtifactDamaged):
        store.open(stage.ref)
    assert store.find(stage.ref) is None
    assert stage.ref not in store
    assert len(list((store.root / "damaged").iterdir())) == 1
    assert commit(store, stage).path("file").read_text() == "content"


def test_an_altered_byte_is_found_by_verify(store: FolderStore, stage: Stage) -> None:
    artifact = commit(store, stage)
    (artifact.folder / "file").write_text("CONTENT")

    with pytest.raises(ArtifactDamaged, match="SHA-256"):
        store.open(stage.ref)


def test_an_artifact_in_another_ones_place_is_refused(store: FolderStore, stage: Stage) -> None:
    artifact = commit(store, stage)
    other = ArtifactRef(kind=stage.kind, key="0" * 64)
    target = store.root / "artifacts" / other.kind / "00" / other.key
    target.parent.mkdir(parents=True)
    artifact.folder.rename(target)

    with pytest.raises(ArtifactDamaged, match="belongs to"):
        store.open(other)


def test_a_store_that_cannot_be_written_says_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(StoreUnavailable, match="Not a directory"):
        FolderStore(tmp_path / "file" / "store").check_writable()


def test_a_key_cannot_leave_the_store() -> None:
    with pytest.raises(ValueError, match="key"):
        ArtifactRef(kind="report", key="../../etc/passwd")
    with pytest.raises(ValueError, match="kind"):
        ArtifactRef(kind="../x", key="0" * 64)
