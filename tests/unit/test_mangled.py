"""Files that were mangled: found, named, never believed, and nothing is unpickled or written elsewhere for them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors.numpy import save

from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
from distill_queue.shared.errors import ArtifactDamaged, InvalidSettings, InvalidSpec, UnknownPipeline
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.files.weights_file import tensors_in
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import WeightsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, Manifest, Provenance
from distill_queue.shared.store.submissions import Submission, Submissions
from distill_queue.worker import models
from distill_queue.worker.training.checkpoints import Checkpoint, Checkpoints
from tests.properties import examples
from tests.unit.shared.soft_labels.test_soft_labels import logits, written

MakeSpec = Callable[..., PipelineSpec]

mangling = examples(150, suppress_health_check=[HealthCheck.function_scoped_fixture])

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.sampled_from(["", "..", "../../x", "/etc/passwd", "\u202e", "é" * 300, "0" * 64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def manglings(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A way to damage some bytes: cut off, overwritten, added to, or replaced."""
    how = draw(st.sampled_from(["cut", "overwrite", "insert", "replace"]))
    where, rubbish = draw(st.floats(0.0, 1.0)), draw(st.binary(min_size=1, max_size=40))

    def mangle(data: bytes) -> bytes:
        at = int(where * len(data))
        match how:
            case "cut":
                return data[:at]
            case "overwrite":
                return (data[:at] + rubbish + data[at + len(rubbish) :])[: len(data)]
            case "insert":
                return data[:at] + rubbish + data[at:]
            case _:
                return rubbish

    return mangle


class Bomb:
    """Says that it was unpickled by an error that no code here catches."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('unpickled')",))


@pytest.fixture
def artifact(make_spec: MakeSpec, tmp_path: Path) -> Artifact:
    """An artifact with one file."""
    store, stage = FolderStore(tmp_path / "store"), Plan.of(make_spec()).trunk[0]
    with store.draft(stage.ref) as draft:
        (draft / "file").write_text("content")
        provenance = Provenance(host="here", device="cpu", versions={})
        record = WeightsRecord(parameters=1)
        return store.commit(stage.ref, draft, stage=stage, record=record, provenance=provenance, seconds=1.0)


def opened(artifact: Artifact, text: bytes) -> Manifest | None:
    """The manifest that the store reads from some bytes, or None where it refuses them."""
    path = artifact.folder / MANIFEST
    whole = path.read_bytes()
    path.write_bytes(text)
    stage = artifact.manifest.stage
    assert stage is not None
    try:
        return FolderStore(artifact.folder.parents[3]).open(stage.ref).manifest
    except ArtifactDamaged as error:
        assert str(path.parent) in str(error)  # noqa: PT017
        return None
    finally:
        path.write_bytes(whole)


def folder_at(path: Path) -> None:
    path.mkdir()


def pipe_at(path: Path) -> None:
    os.mkfifo(path)


def device_at(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nothing_at(path: Path) -> None:
    path.symlink_to(path.parent / "gone")


def deep_json_at(path: Path) -> None:
    path.write_text("[" * 100_000)


NO_FILES = (folder_at, pipe_at, device_at, nothing_at, deep_json_at)


@pytest.mark.parametrize("put", NO_FILES)
def test_what_lies_in_the_place_of_a_file_of_the_store_is_no_file_and_waited_for_by_nobody(
    artifact: Artifact, tmp_path: Path, make_spec: MakeSpec, put: Callable[[Path], None]
) -> None:
    store, ref = FolderStore(tmp_path / "store"), artifact.manifest.stage.ref
    labels = written(tmp_path / "labels", logits())
    submissions, submission = Submissions(store), Submission(plan=Plan.of(make_spec()), canvas="{}")
    submissions.enter("a", submission)
    checkpoints = Checkpoints(tmp_path / "checkpoints", 1.0)
    checkpoints.save(1, Checkpoint({"a": torch.zeros(2)}, {}))
    places = {
        "column": labels.folder / "logits.bin",
        "header": labels.folder / HEADER,
        "file": artifact.path("file"),
        "manifest": artifact.folder / MANIFEST,
    }
    for path in (store.root / "pipelines" / "b.json", tmp_path / "checkpoints" / f"{2:012}-{'0' * 64}.safetensors"):
        put(path)

    found = {}
    for name, path in places.items():
        path.unlink()
        put(path)
        with pytest.raises(ArtifactDamaged) as raised:
            store.open(ref) if name in ("file", "manifest") else SoftLabels.open(labels.folder)
        found[name] = str(raised.value)

    assert all("\n" not in message and str(tmp_path) in message for message in found.values())
    assert store.find(ref) is None
    assert list(submissions) == [("a", submission)]
    assert set(NeededArtifacts.now(None, submissions).pipelines)
    assert checkpoints.latest() is not None
    checkpoints.save(3, Checkpoint({"a": torch.zeros(2)}, {}))


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((10**15, 3), "<f4", "its header claims float32 (1000000000000000, 3), and 40 bytes follow"),
        ((5,), "|O", "holds Python's objects, which are not read"),
        ((11,), "<f4", "its header claims float32 (11,), and 40 bytes follow"),
        ((), "<f4", "its header claims float32 (), and 40 bytes follow"),
    ],
)
def test_an_array_whose_header_lies_is_refused_before_there_is_room_for_it(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, message: str
) -> None:
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": dtype, "fortran_order": False, "shape": shape})
        file.write(bytes(40))

    for mapped in (False, True):
        with pytest.raises(ArtifactDamaged, match=re.escape(message)):
            read_array(tmp_path / "x.npy", mapped=mapped)


@mangling
@given(mangle=manglings())
def test_a_mangled_manifest_is_refused_or_says_the_same(artifact: Artifact, mangle: Callable[[bytes], bytes]) -> None:
    read = opened(artifact, mangle((artifact.folder / MANIFEST).read_bytes()))

    assert read is None or read == artifact.manifest


@mangling
@given(field=st.sampled_from(sorted(Manifest.model_fields)), value=json_values)
def test_any_value_in_a_manifest_is_refused_or_was_there(artifact: Artifact, field: str, value: Any) -> None:
    manifest = json.loads((artifact.folder / MANIFEST).read_bytes())

    read = opened(artifact, json.dumps(manifest | {field: value}).encode())

    assert read is None or read == artifact.manifest


@pytest.mark.parametrize("name", ["../file", "/etc/passwd", "a/b", "", ".."])
def test_a_sealed_manifest_cannot_name_a_file_elsewhere(artifact: Artifact, name: str) -> None:
    files = {name: artifact.manifest.files["file"]}
    sealed = artifact.manifest.model_copy(update={"files": files}).sealed()

    assert opened(artifact, sealed.model_dump_json().encode()) is None


@mangling
@given(mangle=manglings(), name=st.sampled_from([HEADER, "logits.bin"]))
def test_mangled_soft_labels_are_refused_or_found_by_their_checksums(
    tmp_path_factory: pytest.TempPathFactory, mangle: Callable[[bytes], bytes], name: str
) -> None:
    whole = written(tmp_path_factory.mktemp("labels"), logits())
    folder = whole.folder
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(mangle(data))

    try:
        labels = SoftLabels.open(folder)
        labels.verify()
    except ArtifactDamaged as error:
        assert str(folder) in str(error)  # noqa: PT017
        return
    assert labels.header.checksums == whole.header.checksums
    np.testing.assert_array_equal(labels[:], logits()[0])


@mangling
@given(
    field=st.sampled_from(["version", "encoding", "views", "samples", "class_names", "block_rows", "checksums"]),
    value=json_values,
)
def test_any_value_in_a_soft_label_header_is_refused_or_found(
    tmp_path_factory: pytest.TempPathFactory, field: str, value: Any
) -> None:
    folder = written(tmp_path_factory.mktemp("labels"), logits()).folder
    header = json.loads((folder / HEADER).read_bytes())
    (folder / HEADER).write_text(json.dumps(header | {field: value}))

    try:
        labels = SoftLabels.open(folder)
        labels.verify()
    except ArtifactDamaged:
        return
    assert labels[:].shape == (10, 3)


@mangling
@given(mangle=manglings())
def test_a_mangled_checkpoint_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, mangle: Callable[[bytes], bytes]
) -> None:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("checkpoints"), 30.0)
    checkpoints.save(1, Checkpoint({"weights": torch.ones(3)}, {"epoch": 0}))
    (path,) = checkpoints.folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(mangle(whole))

    found = checkpoints.latest()

    assert (found is None) == (path.read_bytes() != whole)


@pytest.mark.parametrize("data", [pickle.dumps(Bomb()), b"", b"\xff" * 100, save({"weights": np.ones(3)})])
def test_a_checkpoint_of_something_else_is_passed_over_and_never_unpickled(tmp_path: Path, data: bytes) -> None:
    (tmp_path / f"{1:012}-{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)

    assert Checkpoints(tmp_path, 30.0).latest() is None


@mangling
@given(mangle=manglings())
def test_mangled_weights_are_weights_or_one_error(tmp_path: Path, mangle: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "given.safetensors"
    model = torch.nn.Sequential(torch.nn.Linear(4, 3))
    path.write_bytes(mangle(save({"head.weight": np.ones((10, 4), np.float32)})))

    try:
        assert len(tensors_in(path)) <= 1
    except InvalidSpec as error:
        assert str(path) in str(error)  # noqa: PT017
    with pytest.raises(InvalidSpec):
        models.load(model, path)


def test_given_weights_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "given.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))

    with pytest.raises(InvalidSpec, match="no safetensors file"):
        tensors_in(path)
    with pytest.raises(InvalidSpec, match="no safetensors file"):
        models.load(torch.nn.Linear(1, 1), path)


@mangling
@given(
    name=st.sampled_from(sorted(Settings.model_fields)),
    value=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
    | st.sampled_from(
        ["nan", "inf", "-1", "1e400", "9" * 5000, "{", '{"train_teacher": NaN}', "redis://[", "redis://h:99999"]
    ),
)
def test_any_setting_is_taken_or_one_error_that_names_it(name: str, value: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(f"DISTILL_{name.upper()}", value)
        try:
            Settings.load()
        except InvalidSettings as error:
            assert f"DISTILL_{name.upper()}" in str(error)  # noqa: PT017


def test_a_spec_that_is_a_link_a_folder_or_huge_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "folder.yaml").mkdir()
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(100_000_000)

    for name, message in (
        ("loop", "symbolic links"),
        ("folder", "Is a directory"),
        ("huge", "larger than 1,000,000 bytes"),
    ):
        with pytest.raises(InvalidSpec, match=message):
            PipelineSpec.load(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize("pipeline", ["../store/secret", "/etc/passwd", "", "a/b", ".."])
def test_a_pipelines_id_cannot_leave_the_store(tmp_path: Path, make_spec: MakeSpec, pipeline: str) -> None:
    submissions = Submissions(FolderStore(tmp_path / "store"))

    with pytest.raises(UnknownPipeline):
        submissions.enter(pipeline, Submission(plan=Plan.of(make_spec()), canvas="{}"))
    with pytest.raises(UnknownPipeline):
        submissions.remove(pipeline)

    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_mangled_submission_does_not_keep_the_others_from_being_recovered(
    tmp_path: Path, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    submissions, submission = Submissions(FolderStore(tmp_path)), Submission(plan=Plan.of(make_spec()), canvas="{}")
    submissions.enter("a", submission)
    (tmp_path / "pipelines" / "b.json").write_text('{"name": "half')
    submissions.enter("c", submission)
    caplog.set_level("WARNING", logger="distill_queue.shared.store.submissions")

    assert list(submissions) == [("a", submission), ("c", submission)]
    assert "b.json is not readable" in caplog.text


def test_files_beside_submissions_do_not_keep_these_from_being_recovered(
    tmp_path: Path, make_spec: MakeSpec, caplog: pytest.LogCaptureFixture
) -> None:
    submissions, submission = Submissions(FolderStore(tmp_path)), Submission(plan=Plan.of(make_spec()), canvas="{}")
    submissions.enter("a", submission)
    for name in ("a (copy).json", ".hidden.json"):
        (tmp_path / "pipelines" / name).write_text("{}")
    caplog.set_level("WARNING", logger="distill_queue.shared.store.submissions")

    assert list(submissions) == [("a", submission)]
    (warning,) = caplog.messages
    assert warning == f"{tmp_path}/pipelines: no pipelines: '.hidden.json', 'a (copy).json': they are passed over"
