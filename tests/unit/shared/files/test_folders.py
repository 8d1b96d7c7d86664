"""A store of several users: modes are the usual ones, and closed files are errors, not taken for absent."""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from distill_queue.scheduler.labels.caches import import_file
from distill_queue.scheduler.maintenance.access import closed_to_others, first_obstacle
from distill_queue.scheduler.maintenance.garbage import Garbage
from distill_queue.scheduler.maintenance.inventory import holdings, verdict_on
from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.errors import StoreUnavailable
from distill_queue.shared.files.folders import draft_folder, found_in
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import SoftLabels
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.label_file import export
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.shared.store.submissions import Submission, Submissions
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints

MakeSpec = Callable[..., PipelineSpec]
HERE = Provenance(host="here", device="cpu", versions={})
ANOTHER_USER = 20_002
DAY = 86_400.0


@pytest.fixture
def store() -> Iterator[FolderStore]:
    """An empty store in a folder that all may enter: pytest's own are of one user."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield FolderStore(Path(name, "store"))


@contextmanager
def with_umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def as_another_user() -> Iterator[None]:
    """Have root, who may do everything, become another user for a while; other users stay themselves."""
    user = os.geteuid()
    os.seteuid(user or ANOTHER_USER)
    try:
        yield
    finally:
        os.seteuid(user)


@contextmanager
def closed(path: Path) -> Iterator[None]:
    """Take all rights from a file or a folder."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    try:
        with as_another_user():
            yield
    finally:
        path.chmod(mode)


def open_to_all(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)


def may_give(store: FolderStore, group: int) -> bool:
    with suppress(PermissionError):
        os.chown(store.root, -1, group)
        return True
    return False


def commit(store: FolderStore, stage: Stage) -> Artifact:
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text("content")
        record = WeightsRecord(parameters=1)
        return store.commit(stage.ref, draft, stage=stage, record=record, provenance=HERE, seconds=1.0)


def checkpoints(store: FolderStore, stage: Stage) -> Checkpoints:
    return Checkpoints(store.partial(stage.ref), every_seconds=1.0)


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_modes_are_those_that_umask_and_the_parents_group_give(
    store: FolderStore, make_spec: MakeSpec, umask: int
) -> None:
    with with_umask(0o000):
        store.root.mkdir(mode=0o777)
    store.root.chmod(0o2777 & ~umask)
    plan = Plan.of(make_spec())
    damaged = plan.trunk[0]
    with with_umask(umask):
        made = [StageRunner(store, Runtime(torch.device("cpu")), lambda *_: None).run(stage) for stage in plan.trunk]
        checkpoints(store, plan.report).save(1, Checkpoint({"weight": torch.zeros(1)}, {}))
        Submissions(store).enter("waiting", Submission(plan=plan, canvas="{}"))
        store.set_aside(damaged.ref)
        for suffix in (".npz", ".safetensors"):
            export(SoftLabels.open(made[-1].folder), store.root / f"labels{suffix}")
        import_file(store.root / "labels.npz", store.root / "cache", Encoding(dtype="float32"))

    found = [path.stat().st_mode for path in store.root.rglob("*")]

    assert len(found) > 30
    assert {stat.S_IMODE(mode) for mode in found if stat.S_ISREG(mode)} == {0o666 & ~umask}
    assert {stat.S_IMODE(mode) for mode in found if stat.S_ISDIR(mode)} == {stat.S_ISGID | 0o777 & ~umask}


def test_a_draft_is_gone_unless_it_was_renamed(tmp_path: Path) -> None:
    with draft_folder(tmp_path, "draft-") as gone, draft_folder(tmp_path, "draft-") as kept:
        kept.rename(tmp_path / "kept")

    assert gone != kept
    assert found_in(tmp_path) == [tmp_path / "kept"]
    assert found_in(tmp_path / "nowhere") == []


#: What is closed, and who looks there.
LOOKS: dict[str, tuple[str, Callable[[FolderStore, Plan], object]]] = {
    "whether an artifact is there": ("artifacts", lambda store, plan: plan.trunk[0].ref in store),
    "for an artifact": ("artifacts", lambda store, plan: store.find(plan.trunk[0].ref)),
    "for all of a kind": ("artifacts/prepare_data", lambda store, _: store.refs("prepare_data")),
    "for all artifacts": ("artifacts", lambda store, _: holdings(store, NeededArtifacts())),
    "for their sizes": ("artifacts/prepare_data/{key}", lambda store, _: holdings(store, NeededArtifacts())),
    "for garbage": ("artifacts/prepare_data/{key}", lambda store, _: garbage(store).find()),
    "for unfinished garbage": ("partial", lambda store, _: garbage(store).find()),
    "into the trash": ("trash", lambda store, _: garbage(store).clear_trash()),
    "for unfinished pipelines": ("pipelines", lambda store, _: list(Submissions(store))),
    "for what pipelines need": ("pipelines", lambda store, _: NeededArtifacts.now(None, Submissions(store))),
    "for one pipeline": ("pipelines", lambda store, _: Submissions(store).find("waiting")),
    "for checkpoints": ("partial", lambda store, plan: checkpoints(store, plan.report).latest()),
    "at sizes": ("partial", lambda store, _: store.bytes_below("partial")),
    "at labels": ("artifacts", lambda store, plan: SoftLabels.open(store.folder(plan.trunk[0].ref))),
    "at the whole store": (".", lambda store, plan: plan.trunk[0].ref in store),
}


def garbage(store: FolderStore, keep_days: float = 30.0) -> Garbage:
    return Garbage(store, NeededArtifacts, keep_days * DAY)


@pytest.mark.parametrize("looks", LOOKS)
def test_who_looks_into_a_closed_folder_does_not_find_it_empty(
    store: FolderStore, make_spec: MakeSpec, looks: str
) -> None:
    plan = Plan.of(make_spec())
    made = commit(store, plan.trunk[0])
    checkpoints(store, plan.report).save(1, Checkpoint({"weight": torch.zeros(1)}, {}))
    Submissions(store).enter("waiting", Submission(plan=plan, canvas="{}"))
    (store.root / "trash").mkdir()
    place, look = LOOKS[looks]
    folder = store.root / place.format(key=f"{made.manifest.key[:2]}/{made.manifest.key}")

    with (
        closed(folder),
        pytest.raises(StoreUnavailable, match=f"^store: {folder}.*Permission denied$"),
    ):
        look(FolderStore(store.root), plan)


def test_an_artifact_that_cannot_be_read_is_not_damaged(store: FolderStore, stage: Stage) -> None:
    folder = commit(store, stage).folder

    with closed(folder):
        verdict = verdict_on(store, stage.ref)

    assert verdict is not None
    assert verdict.state == "unreadable"


@pytest.mark.parametrize("place", [".", "artifacts", "artifacts/prepare_data", "partial", "pipelines"])
def test_the_doctor_names_the_first_folder_that_this_user_cannot_use(
    store: FolderStore, make_spec: MakeSpec, place: str
) -> None:
    plan = Plan.of(make_spec())
    commit(store, plan.trunk[0])
    checkpoints(store, plan.report).save(1, Checkpoint({"weight": torch.zeros(1)}, {}))
    Submissions(store).enter("waiting", Submission(plan=plan, canvas="{}"))
    open_to_all(store.root)
    well = first_obstacle(store.root)

    with closed(store.root / place):
        found = first_obstacle(store.root)

    assert well == ""
    assert found.startswith(f"{store.root / place}: this user cannot read or write or enter it (")
    assert found.endswith(", mode 0000)")


def test_the_doctor_names_a_file_that_this_user_cannot_read(store: FolderStore, stage: Stage) -> None:
    file = commit(store, stage).path("file")
    open_to_all(store.root)

    with closed(file):
        found = first_obstacle(store.root)

    assert found.startswith(f"{file}: this user cannot read it (")


def test_the_doctor_names_a_folder_in_which_only_owners_may_move_things(store: FolderStore, stage: Stage) -> None:
    commit(store, stage)
    open_to_all(store.root)
    aside = store.root / "damaged"
    aside.mkdir()
    aside.chmod(0o1777)
    if os.geteuid():
        pytest.skip("only root can look as another user")

    with as_another_user():
        found = first_obstacle(store.root)

    assert found == f"{aside}: this user cannot move what others have made in it (root:root, mode 1777)"


@pytest.mark.parametrize(
    ("mode", "umask", "words"),
    [
        (0o755, 0o022, ""),
        (0o2775, 0o002, ""),
        (0o2775, 0o022, "the group … cannot write what this user makes there (mode 0755)"),
        (0o775, 0o002, "what this user makes there belongs to the group …, not to …"),
    ],
)
def test_the_doctor_says_what_keeps_others_from_what_this_user_makes(
    store: FolderStore, mode: int, umask: int, words: str
) -> None:
    store.root.mkdir()
    group = next(
        (group for group in (20_500, *os.getgroups()) if group != os.getegid() and may_give(store, group)), None
    )
    if group is None:
        pytest.skip("this user is in one group only")
    store.root.chmod(mode)

    with with_umask(umask):
        found = closed_to_others(store.root)

    assert re.fullmatch(re.escape(words).replace("…", ".+"), found), found
    assert list(store.root.iterdir()) == []


def test_garbage_stays_where_others_cannot_note_that_they_use_it(
    store: FolderStore, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    noted, closed_to_all, unnoted = (commit(store, stage).folder for stage in Plan.of(make_spec()).trunk)
    for folder, mode in ((store.root, 0o775), (noted, 0o775), (closed_to_all, 0o700), (unnoted, 0o755)):
        folder.chmod(mode)
        os.utime(folder, (0, 0))

    found, without_regard = (garbage(store, keep_days).find() for keep_days in (30.0, 0.0))

    assert {piece.path for piece in found} == {noted, closed_to_all}
    assert {piece.path for piece in without_regard} == {noted, closed_to_all, unnoted}
    assert caplog.messages == [
        f"1 artifacts stay, as not all users can note their use (first {unnoted}): chmod -R g+w, or --keep-days 0"
    ]


@pytest.mark.parametrize(("mode", "is_in_the_store"), [(0o755, True), (0o775, False), (0o777, False)])
def test_flowers_pickles_lie_where_nobody_else_can_put_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, is_in_the_store: bool
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    store = tmp_path / "store"
    store.mkdir()
    store.chmod(mode)

    folder = LocalStack(Settings(store=str(store))).flower_folder()

    assert folder.is_relative_to(store if is_in_the_store else tmp_path / "state")
    made = [each for each in (folder, *folder.parents) if each.is_relative_to(tmp_path) and each != tmp_path]
    assert {stat.S_IMODE(each.stat().st_mode) for each in made if each != store} == {0o700}
