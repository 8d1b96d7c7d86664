"""Artifacts in an object store: as whole, as safe and as honest as in a folder, for machines that share no disk."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distill_queue.scheduler.maintenance import garbage
from distill_queue.scheduler.maintenance.doctor import examine
from distill_queue.scheduler.maintenance.garbage import Garbage
from distill_queue.scheduler.maintenance.inventory import holdings, verdict_on
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    DistillError,
    InvalidSettings,
    StoreUnavailable,
)
from distill_queue.shared.files.bucket import BLOCK_BYTES, Bucket
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import SoftLabelsHeader
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.store import copies
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.bucket_store import BucketStore
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, Provenance
from distill_queue.shared.store.submissions import Submission, Submissions
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints

HERE = Provenance(host="here", device="cpu", versions={})
LIMIT = 10**9
Machine = Callable[..., BucketStore]


@pytest.fixture
def machine(bucket: str, tmp_path: Path) -> Machine:
    """A machine's view of the store, with a folder of its own for copies."""
    return lambda name, cache_bytes=LIMIT: BucketStore(Bucket(bucket), tmp_path / name, cache_bytes)


def commit(store: FolderStore, stage: Stage, content: bytes = b"content") -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_bytes(content)
        return store.commit(
            stage.ref, draft, stage=stage, record=WeightsRecord(parameters=1), provenance=HERE, seconds=1.0
        )


def labels_header(views: int, samples: int) -> SoftLabelsHeader:
    return SoftLabelsHeader(
        views=views,
        samples=samples,
        class_names=("a", "b", "c"),
        encoding=Encoding(dtype="float16", top_k=2),
        dataset_key="0" * 64,
        teacher_key="1" * 64,
        block_rows=4,
    )


def place_of(store: BucketStore, stage: Stage, name: str) -> str:
    """The one object of an artifact whose name ends so."""
    (place,) = (place for place in store.bucket.list("artifacts") if stage.key in place and place.endswith(name))
    return place


def test_what_one_machine_commits_another_maps_into_memory(machine: Machine, stage: Stage) -> None:
    alpha, beta = machine("alpha"), machine("beta")
    values = np.arange(3_000_000, dtype=np.float32)  # Of more than one block.
    with alpha.draft(stage.ref) as draft:
        np.save(draft / "values.npy", values)
        alpha.commit(stage.ref, draft, stage=stage, record=None, provenance=HERE, seconds=1.0)

    assert stage.ref in beta
    assert beta.refs(stage.kind) == [stage.ref]
    mapped = np.load(beta.open(stage.ref).path("values.npy"), mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.nbytes > BLOCK_BYTES
    np.testing.assert_array_equal(mapped, values)


def test_a_stage_that_is_found_brings_only_its_manifest(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage)
    beta = machine("beta")

    found = beta.find(stage.ref)

    assert found is not None
    assert found.record == WeightsRecord(parameters=1)
    assert [path.name for path in found.folder.iterdir()] == [MANIFEST]
    assert beta.verified(found, "file").read_bytes() == b"content"


def test_of_many_that_commit_one_key_at_once_the_first_wins_for_all(machine: Machine, stage: Stage) -> None:
    machines = [machine(f"machine {number}") for number in range(4)]
    barrier, seen = threading.Barrier(len(machines)), []

    def work(number: int) -> None:
        barrier.wait()
        seen.append(commit(machines[number], stage, f"by {number}".encode()).path("file").read_bytes())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(machines))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == len(machines)
    assert len(set(seen)) == 1
    assert machine("another").open(stage.ref).path("file").read_bytes() == seen[0]


def test_a_commit_that_is_cut_off_leaves_nothing_and_can_be_done_again(
    wire: Any, machine: Machine, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    alpha, content = machine("alpha"), os.urandom(2_000_000)
    wire.sent_bytes, wire.to_cut = 500_000, 100

    with pytest.raises(StoreUnavailable, match="store: s3://"):
        commit(alpha, stage, content)

    assert wire.cuts
    wire.to_cut = 0
    assert stage.ref not in alpha
    assert alpha.find(stage.ref) is None
    commit(alpha, stage, content)
    assert machine("beta").open(stage.ref).path("file").read_bytes() == content


def test_a_connection_that_is_cut_while_a_file_is_brought_costs_a_block(
    wire: Any, machine: Machine, stage: Stage
) -> None:
    content = os.urandom(BLOCK_BYTES + 1_000_000)
    commit(machine("alpha"), stage, content)
    wire.received_bytes, wire.to_cut = 400_000, 2

    brought = machine("beta").open(stage.ref).path("file")

    assert wire.cuts == 2
    assert brought.read_bytes() == content


def test_a_store_that_cannot_be_reached_says_so_in_a_line_and_leaves_no_file(
    wire: Any, machine: Machine, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    commit(machine("alpha"), stage)
    beta = machine("beta")
    beta.glance(stage.ref)
    wire.received_bytes, wire.to_cut = 0, 10**6

    with pytest.raises(StoreUnavailable) as raised:
        beta.open(stage.ref)

    assert "\n" not in str(raised.value)
    left = {path.suffix: path for path in beta.root.rglob("*") if path.is_file()}
    assert sorted(left) == [".json", ".lock"]


def test_a_bucket_that_is_not_there_is_named(bucket: str, tmp_path: Path, stage: Stage) -> None:
    nowhere = BucketStore(Bucket("s3://nowhere-at-all/distill"), tmp_path, LIMIT)

    with pytest.raises(StoreUnavailable, match=r"s3://nowhere-at-all/distill/probe-.* bucket does not exist"):
        nowhere.check_writable()


def test_an_object_that_was_altered_is_noticed_and_made_again(machine: Machine, stage: Stage) -> None:
    alpha, beta = machine("alpha"), machine("beta")
    commit(alpha, stage)
    alpha.bucket.write(place_of(alpha, stage, "file"), b"cOntent")

    assert beta.find(stage.ref) is not None  # It has all of its files, each of its length.
    with pytest.raises(ArtifactDamaged, match="altered"):
        beta.open(stage.ref)
    verdict = verdict_on(alpha, stage.ref)
    assert verdict is not None
    assert verdict.state == "damaged"
    assert beta.obtain(stage.ref) is None
    assert stage.ref not in alpha
    assert len(alpha.bucket.list("damaged")) == 1
    assert commit(beta, stage).path("file").read_bytes() == b"content"
    assert machine("gamma").open(stage.ref).path("file").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["file", MANIFEST])
def test_an_object_that_is_lost_is_noticed_when_it_is_looked_for(machine: Machine, stage: Stage, name: str) -> None:
    alpha = machine("alpha")
    commit(alpha, stage)
    alpha.bucket.remove(place_of(alpha, stage, name))

    assert machine("beta").find(stage.ref) is None
    assert alpha.find(stage.ref) is None
    with pytest.raises(ArtifactMissing, match=r"no artifact prepare_data/.* in s3://"):
        machine("beta").open(stage.ref)


def test_a_manifest_of_another_artifact_is_refused(machine: Machine, plan: Plan) -> None:
    alpha, (stage, other, *_) = machine("alpha"), plan.trunk
    commit(alpha, stage)
    commit(alpha, other)
    alpha.bucket.write(place_of(alpha, stage, MANIFEST), alpha.manifest_text(other.ref))

    with pytest.raises(ArtifactDamaged, match="the manifest belongs to train_teacher"):
        machine("beta").glance(stage.ref)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(b"cOntent")])
def test_a_copy_that_was_altered_or_lost_is_brought_again(
    machine: Machine, stage: Stage, harm: Callable[[Path], object]
) -> None:
    alpha = machine("alpha")
    artifact = commit(alpha, stage)
    harm(artifact.path("file"))

    assert alpha.open(stage.ref).path("file").read_bytes() == b"content"
    assert stage.ref in alpha


def test_copies_make_room_for_others_by_their_last_use(
    machine: Machine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "LOOK_SHARE", 0.0)
    alpha, stages = machine("alpha", cache_bytes=250_000), [*plan.trunk, plan.report]
    mapped = []
    for number, stage in enumerate(stages):
        artifact = commit(alpha, stage, bytes([number]) * 100_000)
        mapped.append(np.memmap(artifact.path("file"), np.uint8, "r"))
        then = time.time() - 2 * copies.KEPT_SECONDS + number
        os.utime(artifact.folder, (then, then))

    commit(alpha, plan.branches[0][0][0], b"a small one")

    here = [alpha.folder(stage.ref).exists() for stage in stages]
    assert here == [False] * (len(stages) - 2) + [True, True]
    assert [int(values[-1]) for values in mapped] == list(range(len(stages)))  # Mapped files can be read on.
    assert alpha.open(stages[0].ref).path("file").read_bytes() == bytes(100_000)


def test_copies_that_were_used_just_now_stay_whatever_their_size(
    machine: Machine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "LOOK_SHARE", 0.0)
    alpha = machine("alpha", cache_bytes=1)

    folders = [commit(alpha, stage).folder for stage in plan.trunk]

    assert all(folder.exists() for folder in folders)


def test_a_training_goes_on_from_a_checkpoint_that_another_machine_has_written(machine: Machine, stage: Stage) -> None:
    alpha, beta = (
        Checkpoints(store.partial(stage.ref), 30.0, bucket=store.partial_bucket(stage.ref))
        for store in (machine("alpha"), machine("beta"))
    )
    for steps in (1, 2):
        alpha.save(steps, Checkpoint({"weights": torch.full((3,), float(steps))}, {"step": steps}))

    found = beta.latest()

    assert found is not None
    assert found.facts["step"] == 2
    assert found.tensors["weights"].tolist() == [2.0] * 3
    beta.save(3, Checkpoint({"weights": torch.ones(3)}, {}))
    assert alpha.bucket is not None
    assert [name[:12] for name in alpha.bucket.list()] == [f"{3:012}"]
    machine("beta").forget_partial(stage.ref)
    assert not alpha.bucket.list()


def test_a_checkpoint_whose_object_was_altered_is_passed_over(machine: Machine, stage: Stage) -> None:
    alpha, beta = machine("alpha"), machine("beta")
    unfinished = alpha.partial_bucket(stage.ref)
    assert unfinished is not None
    name = f"{1:012}-{hashlib.sha256(b'one').hexdigest()}.safetensors"
    unfinished.write(name, b"another")

    assert Checkpoints(beta.partial(stage.ref), 30.0, bucket=beta.partial_bucket(stage.ref)).latest() is None


def test_soft_labels_are_written_by_machines_that_share_no_disk(machine: Machine, stage: Stage) -> None:
    """One begins and is lost, one helps, one goes on: the bytes are those of one alone."""
    values = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    header = labels_header(views=2, samples=10)

    def fill(writer: SoftLabelsWriter, *blocks: int) -> None:
        for block in blocks:
            view, rows = header.rows_of(block)
            writer.write(block, values[view, rows])

    def begin(name: str) -> SoftLabelsWriter:
        store = machine(name)
        return SoftLabelsWriter.begin(store.partial(stage.ref), header, "cpu", store.partial_bucket(stage.ref))

    alone = SoftLabelsWriter.begin(machine("alone").root, header)
    fill(alone, *range(header.blocks))
    fill(begin("lost"), 0)
    helper = SoftLabelsWriter.join(machine("helper").root, header, "cpu", machine("helper").partial_bucket(stage.ref))
    stranger = SoftLabelsWriter.join(
        machine("helper").root, header, "cuda", machine("helper").partial_bucket(stage.ref)
    )
    writer = begin("goes on")

    assert helper is not None
    assert stranger is None
    assert helper.missing == writer.missing == [1, 2, 3, 4, 5]
    fill(helper, 2, 5)
    assert writer.missing == [1, 3, 4]
    fill(writer, 1, 3, 4)
    together, expected = writer.seal(), alone.seal()

    together.verify()
    for path in expected.folder.iterdir():
        assert path.read_bytes() == (together.folder / path.name).read_bytes()


def test_labels_made_with_something_else_are_begun_anew(machine: Machine, stage: Stage) -> None:
    alpha, unfinished = machine("alpha"), machine("alpha").partial_bucket(stage.ref)
    assert unfinished is not None
    unfinished.write("other/0-" + "0" * 32, b"x")

    SoftLabelsWriter.begin(alpha.partial(stage.ref), labels_header(views=1, samples=4), "cpu", unfinished)

    assert not [name for name in unfinished.list() if name.startswith("other/")]


def test_a_submission_is_known_to_every_machine_until_its_end(machine: Machine, plan: Plan) -> None:
    alpha, beta = Submissions(machine("alpha")), Submissions(machine("beta"))
    submission = Submission(plan=plan, canvas="{}")

    alpha.enter("tiny-1", submission)

    assert list(beta) == [("tiny-1", submission)]
    assert [name for name, _ in beta.texts()] == ["tiny-1"]
    beta.remove("tiny-1")
    assert alpha.find("tiny-1") is None
    alpha.remove("tiny-1")


def test_the_inventory_is_that_of_the_object_store(machine: Machine, plan: Plan) -> None:
    stage = plan.trunk[0]
    commit(machine("alpha"), stage)

    (found,) = holdings(machine("beta"), NeededArtifacts({stage.key: ("tiny-1",)}))

    assert (found.ref, found.title, found.pipelines) == (stage.ref, stage.title, ("tiny-1",))
    assert found.size_bytes > len(b"content")
    verdict = verdict_on(machine("beta"), stage.ref)
    assert verdict is not None
    assert verdict.state == "whole"


def test_garbage_goes_from_the_object_store_unless_it_is_needed_by_then(
    machine: Machine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "GRACE_SECONDS", -1.0)
    store, (needed, soon, unneeded, *_) = machine("alpha"), plan.trunk
    for stage in (needed, soon, unneeded):
        commit(store, stage)
    cut_off, unfinished, damaged = plan.report, plan.branches[0][0][0], plan.branches[1][0][0]
    store.bucket.write(f"artifacts/report/{cut_off.key[:2]}/{cut_off.key}/{'0' * 64}/file", b"x")
    store.bucket.write(f"partial/{unfinished.key}/checkpoint", b"x")
    store.bucket.write(f"damaged/{damaged.kind}-{damaged.key}-1/{MANIFEST}", b"x")
    looks = [NeededArtifacts({needed.key: ("a",)}), NeededArtifacts({needed.key: ("a",), soon.key: ("b",)})]
    found = Garbage(store, lambda: looks.pop(0) if looks[1:] else looks[0], -1.0)  # Slow ones look again.

    pieces = found.find()
    removal = found.remove(pieces)

    assert [piece.what for piece in pieces].count("artifact") == 2
    assert [piece.key for piece in removal.put_back] == [soon.key]
    assert sorted(piece.what for piece in removal.removed) == ["artifact", "damaged", "draft", "unfinished"]
    left = {entry.ref.key for entry in store.entries()}
    assert left == {needed.key, soon.key}
    assert not store.bucket.list("partial")
    assert not store.bucket.list("damaged")


def test_objects_whose_names_lead_elsewhere_or_that_no_store_makes_are_no_garbage(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store, key = machine("alpha"), "ab" + 62 * "0"
    driver, root = store.bucket._connect()
    names = ["partial", "partial/../x", "partial/notes", f"artifacts/report/../{key}/../../f", "damaged/of somebody/f"]
    for name in (*names, f"partial/{key}/../../y"):
        driver.pipe_file(f"{root}/{name}", b"somebody's")
    monkeypatch.setattr(garbage, "GRACE_SECONDS", -1.0)
    found = Garbage(store, NeededArtifacts, keep_seconds=-1.0)

    pieces = found.find()
    found.remove(pieces)

    assert pieces == []
    assert holdings(store, NeededArtifacts()) == []
    assert all(driver.exists(f"{root}/{name}") for name in names)
    assert "left alone, as no store makes it: 'notes'" in caplog.text.replace("'', ", "")


def test_what_was_used_lately_is_no_garbage(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage)
    machine("beta").find(stage.ref)

    assert Garbage(machine("alpha"), NeededArtifacts, 60.0).find() == []
    (used,) = machine("alpha").bucket.list("used")
    assert used == f"used/{stage.kind}/{stage.key}"


def test_the_doctor_writes_to_the_object_store(bucket: str, tmp_path: Path, settings: Settings) -> None:
    remote = settings.model_copy(update={"store": bucket, "cache": tmp_path / "cache"})

    store, *_ = examine(remote)

    assert (store.subject, store.state) == ("store", "good")
    assert bucket in store.detail
    assert not Bucket(bucket).list()


def test_a_driver_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="az://container/distill needs its driver: pip install adlfs"):
        BucketStore(Bucket("az://container/distill"), tmp_path, LIMIT).check_writable()


def test_a_forked_process_has_a_connection_of_its_own(machine: Machine, stage: Stage) -> None:
    alpha = machine("alpha")
    commit(alpha, stage)

    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if stage.ref in alpha else 1)
        except DistillError:
            os._exit(2)

    assert os.waitpid(child, 0)[1] == 0


def test_a_silent_server_does_not_hold_anybody_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        silent_bucket = Bucket("s3://bucket/distill", seconds=0.5)
        (tmp_path / "file").write_bytes(b"content")
        started = time.monotonic()

        for ask in (
            lambda: silent_bucket.read("name"),
            lambda: silent_bucket.exists("name"),
            lambda: silent_bucket.create("name", b"content"),
            lambda: silent_bucket.upload(tmp_path / "file", "name"),
        ):
            with pytest.raises(StoreUnavailable):
                ask()

    assert time.monotonic() - started < 30.0


def test_a_store_that_is_away_is_not_one_that_lacks_the_artifact(
    wire: Any, machine: Machine, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    wire.received_bytes, wire.to_cut = 0, 10**6

    with pytest.raises(StoreUnavailable):
        _ = stage.ref in machine("alpha")


def test_what_was_found_damaged_does_not_take_a_later_commit_with_it(machine: Machine, stage: Stage) -> None:
    alpha, beta = machine("alpha"), machine("beta")
    commit(alpha, stage)
    beta.glance(stage.ref)  # Which it will find damaged.
    alpha.set_aside(stage.ref)
    commit(alpha, stage)

    beta.set_aside(stage.ref)

    assert beta.find(stage.ref) is not None
    assert not beta.folder(stage.ref).joinpath("file").exists()


def test_garbage_that_is_found_or_made_again_while_other_garbage_is_removed_stays(
    machine: Machine, plan: Plan, wait_until: Callable[..., Any]
) -> None:
    store, (first, found, *_) = machine("alpha"), plan.trunk
    commit(store, first)
    commit(store, found)
    written, looked = time.time(), []

    def look() -> NeededArtifacts:
        looked.append(None)
        if len(looked) == 2:  # Listed by now. An object store knows the time to the second.
            wait_until(lambda: int(time.time()) > int(written), "a second has passed")
            machine("beta").find(found.ref)
        return NeededArtifacts()

    garbage = Garbage(store, look, -60.0)
    removal = garbage.remove(garbage.find())

    assert [piece.key for piece in removal.removed] == [first.key]
    assert machine("gamma").open(found.ref).path("file").read_bytes() == b"content"


def test_a_commit_after_a_removal_keeps_its_files(machine: Machine, stage: Stage) -> None:
    """Commit the same bytes again: a slow collector then removes the files of the earlier commit."""
    store = machine("alpha")
    commit(store, stage)
    (earlier,) = Garbage(store, NeededArtifacts, -60.0).find()
    listed = store.bucket.list(str(earlier.path))
    store.bucket.remove(place_of(store, stage, MANIFEST))
    commit(machine("beta"), stage)

    store.bucket.remove(*(name for name in listed if not name.endswith(MANIFEST)))

    assert machine("gamma").open(stage.ref).path("file").read_bytes() == b"content"


def test_what_was_damaged_once_goes_without_the_note_that_its_successor_is_used(
    machine: Machine, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(garbage, "GRACE_SECONDS", -60.0)
    store = machine("alpha")
    commit(store, stage)
    store.set_aside(stage.ref)
    commit(store, stage)
    store.find(stage.ref)
    of_damaged = Garbage(store, NeededArtifacts, 60.0)

    of_damaged.remove([piece for piece in of_damaged.find() if piece.what == "damaged"])

    assert not store.bucket.list("damaged")
    assert store.bucket.list("used")


def test_processes_that_share_a_folder_bring_each_file_once(
    wire: Any, bucket: str, tmp_path: Path, machine: Machine, stage: Stage
) -> None:
    content = os.urandom(3_000_000)
    commit(machine("alpha"), stage, content)
    barrier, seen = threading.Barrier(4), []

    def work() -> None:
        store = BucketStore(Bucket(bucket), tmp_path / "shared", LIMIT)
        barrier.wait()
        seen.append(store.open(stage.ref).path("file").read_bytes())

    before = wire.passed_bytes
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert seen == [content] * 4
    assert wire.passed_bytes - before < 2 * len(content)


def test_verifying_a_bucket_leaves_no_copies(machine: Machine, stage: Stage) -> None:
    commit(machine("alpha"), stage)
    beta = machine("beta")

    verdict_on(beta, stage.ref)

    assert not beta.folder(stage.ref).exists()


def test_unfinished_work_that_others_went_on_with_does_not_stay_for_ever(
    machine: Machine, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "LOOK_SHARE", 0.0)
    alpha, (old, recent, made) = machine("alpha"), plan.trunk
    for stage, hours in ((old, 25), (recent, 1)):
        path = alpha.partial(stage.ref) / "checkpoint"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
        for each in (path, path.parent):
            os.utime(each, (time.time() - hours * 3600,) * 2)

    commit(alpha, made)

    assert not alpha.partial(old.ref).exists()
    assert alpha.partial(recent.ref).exists()
