"""What a store holds, and whether it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distill_queue.scheduler.maintenance.inventory import holdings, named, verdict_on
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef, Stage, checkpoint_ref
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance

HERE = Provenance(host="here", device="cpu", versions={"torch": "2.15"})


def commit(store: FolderStore, stage: Stage) -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text("content")
        record = WeightsRecord(parameters=1)
        return store.commit(stage.ref, draft, stage=stage, record=record, provenance=HERE, seconds=1e-7)


def rewrite(artifact: Artifact, change: Callable[[dict[str, Any]], Any], *, sealed: bool) -> None:
    """Change a manifest as another version might have written it, or as a user may alter it."""
    path = artifact.folder / "manifest.json"
    facts = json.loads(path.read_text())
    checksum = facts.pop("checksum")
    change(facts)
    content = json.dumps(facts, separators=(",", ":"), ensure_ascii=False)
    facts["checksum"] = hashlib.sha256(content.encode()).hexdigest() if sealed else checksum
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False))


def test_a_holding_says_what_an_artifact_is_and_who_needs_it(store: FolderStore, stage: Stage) -> None:
    artifact = commit(store, stage)

    (found,) = holdings(store, NeededArtifacts({stage.key: ("a", "b")}))

    assert (found.ref, found.title, found.host, found.pipelines) == (stage.ref, stage.title, "here", ("a", "b"))
    assert found.size_bytes == sum(path.stat().st_size for path in artifact.folder.iterdir())
    assert holdings(store, NeededArtifacts(), "report") == []
    with pytest.raises(InvalidSettings, match="did you mean 'report'"):
        holdings(store, NeededArtifacts(), "reprot")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"stage": 1, "created": "x", "provenance": null}'])
def test_a_manifest_that_says_nothing_is_listed_all_the_same(store: FolderStore, stage: Stage, text: str) -> None:
    (commit(store, stage).folder / "manifest.json").write_text(text)

    (found,) = holdings(store, NeededArtifacts())

    assert (found.ref, found.created) == (stage.ref, None)


def test_a_whole_artifact_is_whole_and_stays_as_it_is(store: FolderStore, stage: Stage) -> None:
    folder = commit(store, stage).folder
    before = folder.stat().st_mtime_ns

    verdict = verdict_on(store, stage.ref)

    assert verdict is not None
    assert (verdict.state, verdict.detail, verdict.bad) == ("whole", "", False)
    assert folder.stat().st_mtime_ns == before


DAMAGES: dict[str, Callable[[Artifact], Any]] = {
    "a flipped byte": lambda artifact: artifact.path("file").write_text("cOntent"),
    "a cut file": lambda artifact: os.truncate(artifact.path("file"), 3),
    "a lost file": lambda artifact: artifact.path("file").unlink(),
    "a lost manifest": lambda artifact: (artifact.folder / "manifest.json").unlink(),
    "a cut manifest": lambda artifact: os.truncate(artifact.folder / "manifest.json", 99),
    "bytes for a manifest": lambda artifact: (artifact.folder / "manifest.json").write_bytes(b"\xff\x00"),
    "a changed number": lambda artifact: rewrite(artifact, lambda facts: facts.update(seconds=2.0), sealed=False),
    "another's stage": lambda artifact: rewrite(
        artifact, lambda facts: facts["stage"].update(key="0" * 64), sealed=True
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found(store: FolderStore, stage: Stage, damage: str) -> None:
    DAMAGES[damage](commit(store, stage))

    verdict = verdict_on(store, stage.ref)

    assert verdict is not None
    assert (verdict.state, verdict.bad) == ("damaged", True), verdict.detail
    assert store.folder(stage.ref).exists()


@pytest.mark.parametrize(
    "change", [lambda facts: facts.update(format=2), lambda facts: facts["stage"]["recipe"].update(new_field="é")]
)
def test_another_versions_artifact_is_not_taken_for_a_damaged_one(
    store: FolderStore, stage: Stage, change: Callable[[dict[str, Any]], Any]
) -> None:
    rewrite(commit(store, stage), change, sealed=True)

    verdict = verdict_on(store, stage.ref)

    assert verdict is not None
    assert (verdict.state, verdict.bad) == ("of another version", False)


def test_an_artifact_whose_key_this_version_would_not_give_is_of_another(store: FolderStore, stage: Stage) -> None:
    older = stage.model_copy(update={"key": "1" * 64})
    commit(store, older)

    verdict = verdict_on(store, older.ref)

    assert verdict is not None
    assert verdict.state == "of another version"


def test_given_weights_are_those_that_their_key_names(store: FolderStore, tmp_path: Path) -> None:
    save_file({"weight": np.ones(3, np.float32)}, tmp_path / "weights.safetensors")
    for ref in (checkpoint_ref(tmp_path / "weights.safetensors"), ArtifactRef(kind="checkpoint", key="0" * 64)):
        with store.draft(ref) as draft:
            (draft / "model.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes())
            store.commit(ref, draft, stage=None, record=None, provenance=HERE, seconds=0.0)

    states = [verdict and verdict.state for verdict in (verdict_on(store, ref) for ref, _ in store.folders())]

    assert sorted(map(str, states)) == ["of another version", "whole"]


def test_an_artifact_without_its_inputs_says_so(store: FolderStore, make_spec: Callable[..., PipelineSpec]) -> None:
    data, teacher, _ = Plan.of(make_spec()).trunk
    commit(store, teacher)

    verdict = verdict_on(store, teacher.ref)

    assert verdict is not None
    assert (verdict.state, verdict.detail) == ("whole", f"without its input prepare_data/{data.ref.short_key}")


def test_artifacts_are_named_by_the_beginnings_of_their_keys(store: FolderStore, stage: Stage) -> None:
    commit(store, stage)
    (store.root / "artifacts" / "report" / "no" / "key").mkdir(parents=True)

    assert [ref for ref, _ in named(store, [stage.key[:6]])] == [stage.ref]
    assert [ref for ref, _ in named(store, [])] == [stage.ref]
    for wrong, message in ((stage.key[:3], "at least 4 characters"), ("zzzz", "no key")):
        with pytest.raises(InvalidSettings, match=message):
            named(store, [wrong])
