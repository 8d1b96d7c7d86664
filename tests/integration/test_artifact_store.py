"""The promises of the artifact store, each tested in a folder and in a bucket."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.shared.errors import ArtifactDamaged, ArtifactMissing, UnknownPipeline
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.manifest import MANIFEST, Provenance
from distill_queue.shared.store.store import ArtifactStore, store_of

HERE = Provenance(host="here", device="cpu", versions={})
RECORD = WeightsRecord(parameters=1)
#: A process's view of the store; processes of different names are on machines of their own.
Machine = Callable[[str], ArtifactStore]


@pytest.fixture(params=["folder", "bucket"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine's view of one store."""
    if request.param == "folder":
        return lambda _name: store_of(Settings(store=tmp_path / "store"))
    url = request.getfixturevalue("bucket")
    return lambda name: store_of(Settings(store=url, cache=tmp_path / name))


def commit(store: ArtifactStore, stage: Stage, content: bytes = b"content") -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_bytes(content)
        (draft / "other").write_bytes(b"other")
        return store.commit(stage.ref, draft, stage=stage, record=RECORD, provenance=HERE, seconds=1.0)


def test_what_one_machine_commits_is_there_for_another(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage)

    beta = machine("beta")
    found, opened = beta.find(stage.ref), beta.open(stage.ref)

    assert stage.ref in beta
    assert found is not None
    assert found.record == opened.record == RECORD
    assert opened.manifest.stage == stage
    assert sorted(opened.manifest.files) == ["file", "other"]
    assert opened.path("file").read_bytes() == b"content"
    assert beta.verified(found, "other").read_bytes() == beta.local_file(found, "other").read_bytes() == b"other"
    assert beta.local_folder(stage.ref) == beta.folder(stage.ref) == opened.folder
    with pytest.raises(ArtifactDamaged, match="no file 'another' in its manifest"):
        beta.verified(found, "another")


def test_what_is_not_committed_is_not_there_and_leaves_nothing(machine: Machine, stage: Stage) -> None:
    store = machine("alpha")
    with store.draft(stage.ref) as draft:
        (draft / "file").write_bytes(b"half")

    assert stage.ref not in store
    assert store.find(stage.ref) is None
    assert store.obtain(stage.ref) is None
    for read in (store.open, store.glance):
        with pytest.raises(ArtifactMissing, match=f"no artifact {stage.kind}/{stage.ref.short_key} in {store}: run"):
            read(stage.ref)
    assert not draft.parent.exists()
    assert store.bytes_below("artifacts") == store.bytes_below("partial") == 0


def test_the_first_commit_of_a_key_wins_for_all_machines(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage, b"first")

    again = commit(machine("beta"), stage, b"second")

    assert again.path("file").read_bytes() == b"first"
    assert machine("gamma").open(stage.ref).path("file").read_bytes() == b"first"
    assert machine("alpha").keeps_first()


def test_a_draft_that_was_committed_before_can_be_committed_again(machine: Machine, stage: Stage) -> None:
    """As after a commit that failed once its manifest was written."""
    store = machine("alpha")
    with store.draft(stage.ref) as draft:
        (draft / "file").write_bytes(b"content")
        (draft / MANIFEST).write_text("{}")
        artifact = store.commit(stage.ref, draft, stage=stage, record=None, provenance=HERE, seconds=1.0)

    assert list(artifact.manifest.files) == ["file"]
    assert stage.ref in machine("beta")


def test_a_file_that_was_altered_here_is_noticed_before_it_is_read(machine: Machine, stage: Stage) -> None:
    store = machine("alpha")
    artifact = commit(store, stage)
    artifact.path("file").write_bytes(b"cOntent")

    found = store.obtain(stage.ref)

    # A folder's file is the only one there is, a bucket's copy is brought again.
    assert found is None or found.path("file").read_bytes() == b"content"
    assert commit(store, stage).path("file").read_bytes() == b"content"


def test_what_is_set_aside_is_kept_and_made_again(machine: Machine, stage: Stage) -> None:
    alpha, beta = machine("alpha"), machine("beta")
    commit(alpha, stage)

    alpha.set_aside(stage.ref)
    alpha.set_aside(stage.ref)  # Another worker was faster.

    assert stage.ref not in beta
    assert beta.find(stage.ref) is None
    assert beta.bytes_below("damaged") > 0
    commit(beta, stage, b"again")
    assert alpha.open(stage.ref).path("file").read_bytes() == b"again"


def test_a_listing_has_every_artifact_and_its_manifest(machine: Machine, plan: Plan) -> None:
    first, second = plan.trunk[:2]
    for stage in (first, second):
        commit(machine("alpha"), stage)

    store = machine("beta")
    entries = {entry.ref: entry for entry in store.entries()}

    assert set(entries) == {first.ref, second.ref}
    assert store.refs(first.kind) == [first.ref]
    assert store.refs("report") == []
    for ref, entry in entries.items():
        assert entry.manifest == store.manifest_text(ref)
        assert entry.size_bytes == len(b"content") + len(b"other") + len(entry.manifest)
    assert store.manifest_text(plan.report.ref) == b""
    assert store.bytes_below("artifacts") == sum(entry.size_bytes for entry in entries.values())


def test_rereading_finds_an_artifact_whole_and_changes_nothing(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage)
    store = machine("beta")
    before = store.folder(stage.ref).exists()

    with store.reread(stage.ref) as artifact:
        assert artifact.path("file").read_bytes() == b"content"

    assert store.folder(stage.ref).exists() == before


def test_unfinished_work_is_forgotten_for_all_machines(machine: Machine, stage: Stage) -> None:
    alpha = machine("alpha")
    folder, bucket = alpha.partial(stage.ref), alpha.partial_bucket(stage.ref)
    folder.mkdir(parents=True)
    (folder / "checkpoint").write_bytes(b"half")
    if bucket:
        bucket.upload(folder / "checkpoint", "checkpoint")
    assert machine("beta").bytes_below("partial") == len(b"half")

    alpha.forget_partial(stage.ref)
    alpha.forget_partial(stage.ref)

    assert machine("beta").bytes_below("partial") == 0
    assert not folder.exists()


def test_documents_are_replaced_whole_and_are_gone_once_removed(machine: Machine) -> None:
    alpha, beta = machine("alpha").documents("pipelines"), machine("beta").documents("pipelines")

    assert list(alpha.list()) == []
    assert alpha.read("a.json") is None
    alpha.remove("a.json")
    for name, content in (("b.json", b"other"), ("a.json", b"a long one"), ("a.json", b"short")):
        alpha.write(name, content)

    assert list(beta.list()) == ["a.json", "b.json"]
    assert beta.read("a.json") == b"short"
    beta.remove("a.json")
    assert list(alpha.list()) == ["b.json"]
    assert alpha.read("a.json") is None


def test_a_page_is_read_where_another_machine_has_written_it(machine: Machine) -> None:
    alpha = machine("alpha")
    page = alpha.report("digits-1")
    page.parent.mkdir(parents=True)
    page.write_text("a page")

    alpha.share_report("digits-1")

    assert machine("beta").report("digits-1").read_text() == "a page"
    assert not machine("beta").report("digits-2").exists()
    with pytest.raises(UnknownPipeline):
        alpha.report("../digits-1")


def test_a_store_that_can_be_written_is_left_as_it_was(machine: Machine) -> None:
    store = machine("alpha")

    store.check_writable()

    assert list(store.root.iterdir()) == []
    assert store.bytes_below("") == 0


def test_a_forked_process_commits_what_its_parent_finds(machine: Machine, plan: Plan) -> None:
    store, (stage, other, *_) = machine("alpha"), plan.trunk
    commit(store, stage)  # So that it is connected, and has verified files.

    child = os.fork()
    if child == 0:
        code = 1
        try:
            commit(store, other)
            code = 0
        finally:
            os._exit(code)

    assert os.waitpid(child, 0)[1] == 0
    assert store.open(other.ref).path("file").read_bytes() == b"content"
