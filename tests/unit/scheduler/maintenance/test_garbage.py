"""Garbage is removed, and nothing that a pipeline needs, even if it begins to need it meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.scheduler.maintenance.garbage import Garbage
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage, bundle_ref
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.pieces import Piece
from distill_queue.shared.store.submissions import Submission, Submissions

HERE = Provenance(host="here", device="cpu", versions={})
DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    """An empty store."""
    return FolderStore(tmp_path / "store")


@pytest.fixture
def plan(make_spec: Callable[..., PipelineSpec]) -> Plan:
    """Some plan."""
    return Plan.of(make_spec())


def commit(store: FolderStore, stage: Stage, days_ago: float = 100.0) -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text(stage.title)
        record = WeightsRecord(parameters=1)
        made = store.commit(stage.ref, draft, stage=stage, record=record, provenance=HERE, seconds=1.0)
    age(made.folder, days_ago)
    return made


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    for each in (*path.rglob("*"), path):
        os.utime(each, (then, then))


def unfinished(store: FolderStore, stage: Stage, days_ago: float, name: str = "checkpoint") -> Path:
    path = store.partial(stage.ref) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("half")
    age(path.parent, days_ago)
    return path


def garbage(store: FolderStore, *looks: NeededArtifacts, keep_days: float = 30.0) -> Garbage:
    """Garbage by what each look finds, the last one again and again."""
    left = list(looks)
    return Garbage(store, lambda: left.pop(0) if len(left) > 1 else left[0], keep_days * DAY)


def names(pieces: list[Piece] | tuple[Piece, ...]) -> list[str]:
    return sorted(f"{piece.what} {piece.kind}".strip() for piece in pieces)


def test_what_nobody_needs_and_nobody_used_goes_and_the_rest_stays(store: FolderStore, plan: Plan) -> None:
    needed, recent, old = plan.trunk
    commit(store, needed)
    commit(store, recent, days_ago=29.0)
    commit(store, old, days_ago=31.0)
    found = garbage(store, NeededArtifacts({needed.key: ("pipeline",)}))

    removal = found.remove(found.find())

    assert names(removal.removed) == ["artifact soft_labels"]
    assert removal.put_back == ()
    assert (needed.ref in store, recent.ref in store, old.ref in store) == (True, True, False)
    assert list((store.root / "trash").iterdir()) == []


def test_to_find_an_artifact_is_to_use_it(store: FolderStore, plan: Plan) -> None:
    commit(store, plan.report)
    assert garbage(store, NeededArtifacts()).find()

    assert store.find(plan.report.ref)

    assert garbage(store, NeededArtifacts()).find() == []


@pytest.mark.parametrize("keep_days", [0.0, 30.0])
def test_what_is_found_while_garbage_is_collected_is_put_back(store: FolderStore, plan: Plan, keep_days: float) -> None:
    used, other = plan.trunk[:2]
    commit(store, used)
    commit(store, other)
    found = garbage(store, NeededArtifacts(), keep_days=keep_days)
    pieces = found.find()

    assert store.find(used.ref)
    removal = found.remove(pieces)

    assert names(removal.put_back) == ["artifact prepare_data"]
    assert store.open(used.ref).path("file").read_text() == used.title
    assert other.ref not in store


def test_what_a_pipeline_needs_that_is_submitted_meanwhile_is_put_back(store: FolderStore, plan: Plan) -> None:
    commit(store, plan.report)
    found = garbage(store, NeededArtifacts(), NeededArtifacts({plan.report.key: ("new",)}))

    removal = found.remove(found.find())

    assert (names(removal.removed), names(removal.put_back)) == ([], ["artifact report"])
    assert plan.report.ref in store


def test_what_was_made_again_meanwhile_is_not_touched(store: FolderStore, plan: Plan) -> None:
    commit(store, plan.report)

    def look() -> NeededArtifacts:
        if plan.report.ref in store:
            return NeededArtifacts()
        commit(store, plan.report, days_ago=0.0)
        return NeededArtifacts({plan.report.key: ("new",)})

    found = Garbage(store, look, 0.0)
    found.remove(found.find())

    assert store.open(plan.report.ref).manifest.created > time.time() - DAY
    assert list((store.root / "trash").iterdir()) == []


def test_an_artifact_that_is_taken_while_it_is_looked_for_is_not_found(
    store: FolderStore, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, really = commit(store, plan.report), FolderStore.open

    def opened_and_taken(self: FolderStore, ref: object) -> Artifact:
        found = really(self, plan.report.ref)
        artifact.folder.rename(store.root / "taken")
        return found

    monkeypatch.setattr(FolderStore, "open", opened_and_taken)

    assert store.find(plan.report.ref) is None


def test_where_it_cannot_be_known_what_is_needed_all_is_put_back(store: FolderStore, plan: Plan) -> None:
    commit(store, plan.report)
    pieces = garbage(store, NeededArtifacts()).find()

    def away() -> NeededArtifacts:
        raise ConnectionError("the broker went away")

    with pytest.raises(ConnectionError):
        Garbage(store, away, DAY).remove(pieces)

    assert plan.report.ref in store


def test_what_a_killed_run_left_in_the_trash_goes_back_and_what_was_doomed_goes(store: FolderStore, plan: Plan) -> None:
    kept, doomed = plan.trunk[:2]
    for stage, run in ((kept, "1-a"), (doomed, "1-a.doomed")):
        folder = commit(store, stage).folder
        place = store.root / "trash" / run / "+".join(folder.relative_to(store.root).parts)
        place.parent.mkdir(parents=True)
        folder.rename(place)

    garbage(store, NeededArtifacts()).clear_trash()

    assert (kept.ref in store, doomed.ref in store) == (True, False)
    assert list((store.root / "trash").iterdir()) == []


def test_unfinished_work_stays_while_somebody_works_on_it_needs_it_or_wrote_it_today(
    store: FolderStore, plan: Plan
) -> None:
    data, teacher, labels = plan.trunk
    leased, needed = unfinished(store, data, 9.0), unfinished(store, teacher, 9.0)
    fresh, stale = unfinished(store, labels, 0.5), unfinished(store, plan.report, 1.5)
    found = garbage(store, NeededArtifacts({teacher.key: ("pipeline",)}, frozenset({data.key})), keep_days=0.0)

    removal = found.remove(found.find())

    assert names(removal.removed) == ["unfinished"]
    assert [path.exists() for path in (leased, needed, fresh, stale)] == [True, True, True, False]


def test_a_dead_workers_draft_goes_and_the_checkpoint_beside_it_stays(store: FolderStore, plan: Plan) -> None:
    checkpoint = unfinished(store, plan.report, 2.0)
    draft = unfinished(store, plan.report, 2.0, "draft-abc/weights").parent
    found = garbage(store, NeededArtifacts({plan.report.key: ("pipeline",)}))

    removal = found.remove(found.find())

    assert names(removal.removed) == ["draft"]
    assert (checkpoint.exists(), draft.exists()) == (True, False)


def test_what_is_damaged_goes_after_a_day(store: FolderStore, plan: Plan) -> None:
    for stage, days in ((plan.trunk[0], 0.0), (plan.trunk[1], 2.0)):
        commit(store, stage)
        store.set_aside(stage.ref)
        (folder,) = (store.root / "damaged").glob(f"*{stage.key}-*")
        folder.rename(folder.with_name(f"{stage.kind}-{stage.key}-{time.time_ns() - int(days * DAY * 1e9)}"))
    found = garbage(store, NeededArtifacts())

    assert names(found.remove(found.find()).removed) == ["damaged train_teacher"]


def test_a_kept_pipeline_reaches_its_stages_their_inputs_and_its_bundles(
    store: FolderStore, make_spec: Callable[..., PipelineSpec]
) -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "seeds": 3}
    plan = Plan.of(make_spec(students=[student, student | {"name": "taught", "teacher": "small"}]))
    submissions = Submissions(store)
    submissions.enter("kept", Submission(plan=plan, canvas="{}"))

    needed = NeededArtifacts.now(None, submissions)

    bundles = {bundle_ref(bundle).key for bundle in plan.bundles}
    assert [len(generation.branches[0][0]) for generation in plan.later] == [3]
    keys = {ref.key for stage in plan.stages for ref in (stage.ref, *stage.inputs.values())}
    assert keys | bundles <= set(needed.pipelines)
    assert set(needed.pipelines.values()) == {("kept",)}


def test_a_pipeline_of_another_version_keeps_what_it_names(store: FolderStore, plan: Plan) -> None:
    folder = store.root / "pipelines"
    folder.mkdir(parents=True)
    (folder / "newer.json").write_text(json.dumps({"stages": {"of a newer kind": plan.report.key}}))

    assert NeededArtifacts.now(None, Submissions(store)).pipelines == {plan.report.key: ("newer",)}


KEY = "ab" + 62 * "0"


def link(place: str) -> Callable[[Path, Path], None]:
    """Put a link to what lies elsewhere at a place in the store."""

    def put(root: Path, elsewhere: Path) -> None:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).symlink_to(elsewhere)

    return put


def in_trash(name: str) -> Callable[[Path, Path], None]:
    """Put a folder with something in it into the trash."""

    def put(root: Path, elsewhere: Path) -> None:
        (root / "trash" / name).mkdir(parents=True)
        (root / "trash" / name / "file").write_text("more")

    return put


@pytest.mark.parametrize(
    "put",
    [
        link("artifacts"),
        link("artifacts/train_teacher"),
        link("artifacts/train_teacher/ab"),
        link(f"artifacts/train_teacher/ab/{KEY}"),
        link("partial"),
        link(f"partial/{KEY}"),
        link(f"partial/{KEY}/draft-1"),
        link("damaged"),
        link(f"damaged/train_teacher-{KEY}-1"),
        link("trash"),
        link("trash/1-ab"),
        link("trash/1-ab.doomed"),
        link(f"trash/1-ab.doomed/partial+{KEY}"),
        link(f"trash/1-ab/partial+{KEY}"),
        in_trash("1-ab/..+..+..+escaped"),
        in_trash("1-ab/..+escaped"),
        in_trash("1-ab/+etc+passwd"),
        in_trash("1-ab.doomed/..+escaped"),
        in_trash("of somebody"),
    ],
)
def test_nothing_outside_of_the_store_is_listed_counted_or_moved_and_no_link_is_followed(
    store: FolderStore, plan: Plan, tmp_path: Path, caplog: pytest.LogCaptureFixture, put: Callable[..., None]
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for place in (f"artifacts/train_teacher/ab/{KEY}", f"train_teacher/ab/{KEY}", f"ab/{KEY}", KEY, f"draft-1/{KEY}"):
        (elsewhere / place).mkdir(parents=True, exist_ok=True)
        (elsewhere / place / "file").write_text("somebody's")
    (elsewhere / f"damaged/train_teacher-{KEY}-1").mkdir(parents=True)
    (elsewhere / "1-ab.doomed" / f"partial+{KEY}").mkdir(parents=True)
    put(store.root, elsewhere)
    age(tmp_path, 100.0)
    before = sorted(tmp_path.rglob("*"))
    found = garbage(store, NeededArtifacts(), keep_days=0.0)

    found.clear_trash()
    pieces = found.find()
    found.remove(pieces)

    assert [piece.what for piece in pieces if piece.path.is_symlink()] == []
    assert sum(piece.size_bytes for piece in pieces) == 0
    gone = {path for path in before if not path.exists() and not path.is_symlink()}
    assert all(path.name in (KEY, "1-ab.doomed", "1-ab") for path in gone)  # Empty folders of the store itself.
    assert all(path.is_relative_to(store.root) for path in gone)
    assert not (tmp_path / "escaped").exists()
    assert list(store.entries()) == []
    assert store.bytes_below("artifacts") + store.bytes_below("partial") + store.bytes_below("damaged") == 0
    assert "left alone, as no store makes it" in caplog.text or (store.root / "partial" / KEY / "draft-1").is_symlink()


def test_a_link_in_a_piece_goes_and_what_it_leads_to_stays(store: FolderStore, plan: Plan, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("somebody's")
    made = commit(store, plan.report)
    (made.folder / "more").symlink_to(kept)
    age(made.folder, 100.0)
    found = garbage(store, NeededArtifacts())

    removal = found.remove(found.find())

    assert names(removal.removed) == ["artifact report"]
    assert (kept / "file").read_text() == "somebody's"
