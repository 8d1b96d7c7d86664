"""Reports of pipelines that lack something, or are named by somebody with bad intentions."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from distill_queue.shared.errors import PipelineFailed, StoreUnavailable, UnknownPipeline
from distill_queue.shared.ledger.status import PipelineStatus, StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.drawing import DARK
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.images import are_images, data_uris
from distill_queue.shared.report.page import render, write_page
from distill_queue.shared.report.svg import Picture
from distill_queue.shared.results.records import DatasetRecord, DataWarning, StageRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import MANIFEST, ArtifactStore, Manifest
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.conftest import small_spec

HOSTILE = ('<script>alert("x")</script>', "'\"><img src=x onerror=alert(1)>", "$\\frac{", "\x00\u202e\n", "汉字")
SUBMITTED = 1_000_000.0
CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineStatus, Path]:
    """A pipeline that was done, and its store; not to be changed."""
    return run(PipelineSpec.model_validate(small_spec()), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def status(finished: tuple[PipelineStatus, Path]) -> PipelineStatus:
    """Where that pipeline stands."""
    return finished[0]


@pytest.fixture
def store(finished: tuple[PipelineStatus, Path], tmp_path: Path) -> ArtifactStore:
    """A copy of its store."""
    shutil.copytree(finished[1], tmp_path / "store")
    return ArtifactStore(tmp_path / "store")


def run(spec: PipelineSpec, folder: Path) -> tuple[PipelineStatus, Path]:
    plan, store, states = Plan.of(spec), ArtifactStore(folder), {}
    for number, stage in enumerate(plan.stages):
        artifact = StageRunner(store, CPU, lambda *_: None).run(stage)
        record = StageRecord(
            key=stage.key,
            kind=stage.kind,
            title=stage.title,
            outcome="found" if number == 1 else "computed",
            seconds=0.5,
            ended=SUBMITTED + number + 1,
            worker=f"worker-{number % 2}",
            record=artifact.record,
        )
        states[stage.key] = StageState(state="done", record=record)
    return PipelineStatus(id="tiny-1", submitted=SUBMITTED, plan=plan, states=states), folder


def changed(status: PipelineStatus, stage: int, **changes: Any) -> PipelineStatus:
    """A status with something else in the stage record of one of its stages."""
    key = status.plan.stages[stage].key
    state = status.states[key]
    assert state.record is not None
    record = state.record.model_copy(update=changes)
    return status.model_copy(update={"states": status.states | {key: state.model_copy(update={"record": record})}})


def page_of(status: PipelineStatus, store: ArtifactStore) -> str:
    return render(ReportFacts.read(status, store)).replace("\u00a0", " ")


def without_files(store: ArtifactStore, status: PipelineStatus, title: str, *names: str) -> None:
    """Make an artifact one of a version that kept fewer files."""
    (stage,) = (stage for stage in status.plan.stages if stage.title == title)
    folder = store.folder(stage.ref)
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    for name in names:
        (folder / name).unlink()
    files = {name: entry for name, entry in manifest.files.items() if name not in names}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).sealed().model_dump_json())


def test_a_page_has_every_section_and_asks_for_nothing(status: PipelineStatus, store: ArtifactStore) -> None:
    page = page_of(status, store)

    assert re.findall(r'<h2 id="section-\d+">(.*?)</h2>', page) == [
        "Scores and costs",
        "Accuracy against cost",
        "Learning curves",
        "Where they are wrong",
        "Calibration",
        "Where teacher and student disagree",
        "Where the time went",
        "Lineage",
        "How to make it again",
    ]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.findall(r"<script|url\((?!#)|@import|https?://", page)
    assert "Not shown" not in page
    assert all(stage.key in page for stage in status.plan.stages)


def test_a_page_says_what_was_trained_and_on_what(status: PipelineStatus, store: ArtifactStore) -> None:
    page = page_of(status, store)

    assert "Data set digits: 1,438 training samples; 359 test samples; 10 classes" in page
    for about in ("mlp 32 · 2 epochs", "mlp 8 · T=4 alpha=0.9 · 2 epochs", "mlp 8 · 2 epochs"):
        assert f'<span class="about">{about}</span>' in page


def test_the_spec_on_a_page_finds_every_stage(status: PipelineStatus, store: ArtifactStore, tmp_path: Path) -> None:
    page = page_of(status, store)

    (text,) = re.findall(r"<summary>tiny.yaml</summary>\n<pre.*?>(.*?)</pre>", page, re.DOTALL)
    (tmp_path / "tiny.yaml").write_text(unescape(text))
    again = Plan.of(PipelineSpec.load(tmp_path / "tiny.yaml"))

    assert "distill run tiny.yaml" in page
    assert all(stage.ref in store for stage in again.stages)


def test_a_plan_that_tells_no_spec_can_still_be_retried(status: PipelineStatus, store: ArtifactStore) -> None:
    unnamed = status.model_copy(update={"plan": status.plan.model_copy(update={"name": "<no name>"})})

    page = page_of(unnamed, store)

    assert f"distill retry {status.id}" in page
    assert "distill run" not in page
    assert "Not shown: the spec" in page


def test_each_control_stands_below_its_student(
    status: PipelineStatus, store: ArtifactStore, make_report: Callable[..., ReportFacts]
) -> None:
    page = render(make_report(status, store, students=1, classes=10))

    scores, costs = (
        re.findall(r'<th scope="row">([^<]*)', table)
        for table in re.findall(r"<table>.*?</table>", page, re.DOTALL)[:2]
    )

    assert scores == ["teacher", "s0", "small/control"]
    assert costs == ["teacher", "s0"]


def test_a_page_is_the_same_every_time_and_its_ids_are_its_own(status: PipelineStatus, store: ArtifactStore) -> None:
    first, second = (page_of(status, store) for _ in range(2))
    ids = re.findall(r'\bid="([^"]+)"', first)

    assert first == second
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', first)) <= set(ids)


def test_names_are_shown_as_text_whatever_they_are(status: PipelineStatus, store: ArtifactStore) -> None:
    dataset = status.states[status.plan.trunk[0].key].record
    assert dataset is not None
    names = (*HOSTILE, *"fghij")
    hostile = changed(status, 0, record=dataset.record.model_copy(update={"class_names": names}), worker=HOSTILE[0])

    page = page_of(hostile, store)

    assert "<script" not in page
    assert "<img src=x" not in page
    assert "\x00" not in page
    assert "&lt;script&gt;" in page
    assert "$\\frac{" in page


def test_what_stages_warn_of_stands_at_the_beginning_and_what_is_accepted_is_dimmed(
    status: PipelineStatus, store: ArtifactStore
) -> None:
    record = status.states[status.plan.stages[0].key].record
    assert record is not None
    assert isinstance(record.record, DatasetRecord)
    warnings = (
        DataWarning(kind="unused_classes", text=f"class {HOSTILE[0]} has no sample"),
        DataWarning(kind="channels_last", text="odd"),
    )
    odd = changed(status, 0, record=record.record.model_copy(update={"warnings": warnings}))
    accepting = odd.model_copy(update={"plan": odd.plan.model_copy(update={"accept": ("channels_last",)})})

    pages = [page_of(each, store) for each in (status, odd, accepting)]

    assert ['<ul class="warnings"' in page for page in pages] == [False, True, True]
    assert "<script" not in pages[1]
    assert "has no sample (unused_classes)</li>" in pages[1]
    assert "<li><strong>Warning:</strong> prepare digits: odd (channels_last)</li>" in pages[1]
    assert '<li class="faint"><strong>Accepted:</strong> prepare digits: odd (channels_last)</li>' in pages[2]
    assert pages[2].index("Accepted:") < pages[2].index('<ul class="summary">')
    assert "accept: [channels_last]" in pages[2], "in the spec to copy"


def test_an_artifact_that_is_gone_is_said_to_be_missing(status: PipelineStatus, store: ArtifactStore) -> None:
    for stage in status.plan.stages:
        if stage.title in ("prepare digits", "train teacher", "evaluate small"):
            shutil.rmtree(store.folder(stage.ref))

    page = page_of(status, store)

    for title in ("prepare digits", "train teacher", "evaluate small"):
        assert f"Not shown: {title} (not in the store any more)." in page
    assert "Not shown: prepare digits, train teacher, evaluate small (not in the store any more)." in page
    assert page.count(">not in the store any more</td>") == 3


def test_a_page_needs_no_artifact_at_all(status: PipelineStatus, tmp_path: Path) -> None:
    page = page_of(status, ArtifactStore(tmp_path / "empty"))

    assert "small: " in page
    assert "Their predictions are not there." in page
    assert not (tmp_path / "empty").exists()


def test_artifacts_of_earlier_versions_have_no_curves(status: PipelineStatus, store: ArtifactStore) -> None:
    for title in ("train teacher", "distill small", "train small/control"):
        without_files(store, status, title, "history.json")

    page = page_of(status, store)

    names = ", ".join(stage.title for stage in status.plan.stages if stage.kind.startswith(("train", "distill")))
    assert f"Not shown: {names} (made by a version that kept none)." in page
    assert "accuracy by epoch" not in page


def test_curves_of_several_teachers_are_those_of_each(tmp_path: Path) -> None:
    teachers = [{"model": {"name": "mlp", "hidden": [size]}, "training": {"epochs": 2}} for size in (16, 32)]
    spec = {name: value for name, value in small_spec(teachers=teachers).items() if name != "teacher"}
    status, folder = run(PipelineSpec.model_validate(spec), tmp_path / "store")

    page = page_of(status, ArtifactStore(folder))

    assert "After the last epoch, on training data: teacher 1" in page
    assert "Not shown" not in page


def test_a_student_and_its_control_have_one_latency(status: PipelineStatus, store: ArtifactStore) -> None:
    facts = ReportFacts.read(status, store)
    (small,) = facts.students
    assert small.control

    measured = {each.evaluations[0].latency_median_ms for each in small.both}

    assert small.graded.latency_ms == small.control.latency_ms == min(measured)


def test_the_timeline_has_a_row_of_its_own(status: PipelineStatus, store: ArtifactStore) -> None:
    assert page_of(status, store).count('<figure class="row">') == 1


def test_a_damaged_file_is_not_shown_and_left_as_it_is(status: PipelineStatus, store: ArtifactStore) -> None:
    (stage,) = (stage for stage in status.plan.stages if stage.title == "evaluate teacher")
    path = store.folder(stage.ref) / "predictions.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x77")

    page = page_of(status, store)

    assert "Not shown: evaluate teacher (damaged)." in page
    assert path.exists()


def test_records_of_earlier_versions_have_no_times(status: PipelineStatus, store: ArtifactStore) -> None:
    older = status
    for number in range(len(status.plan.stages)):
        older = changed(older, number, ended=0.0)
    told = json.loads(older.model_dump_json())
    for state in told["states"].values():
        del state["record"]["ended"]

    page = page_of(PipelineStatus.model_validate_json(json.dumps(told)), store)

    assert f"Of {len(status.plan.stages)} stages it is not known when they ended" in page
    assert "Stages over workers" not in page


def test_a_teacher_that_is_known_by_its_labels_only_disagrees_with_nobody(tmp_path: Path) -> None:
    prepared = StageRunner(ArtifactStore(tmp_path / "store"), CPU, lambda *_: None).run(
        Plan.of(PipelineSpec.model_validate(small_spec())).trunk[0]
    )
    targets = np.load(prepared.path("train_targets.npy"))
    np.savez(tmp_path / "labels.npz", logits=np.eye(10, dtype=np.float32)[targets] * 9)
    spec = PipelineSpec.model_validate(
        small_spec(teacher={"soft_labels": str(tmp_path / "labels.npz")}, evaluation={"control": False})
    )
    store, plan = ArtifactStore(tmp_path / "store"), Plan.of(spec)
    ref = plan.trunk[1].inputs["file"]
    with store.draft(ref) as draft:
        shutil.copyfile(tmp_path / "labels.npz", draft / "labels.npz")
        store.commit(ref, draft, stage=None, record=None, provenance=CPU.provenance, seconds=0.0)
    status, _ = run(spec, tmp_path / "store")

    page = page_of(status, store)

    assert "There are only labels of the teacher" in page
    assert f"copy it from {store.folder(ref).relative_to(store.root)} in the store, with the suffix" in page
    assert "it has no control, so what the teacher brought is not known" in page
    assert "under its teacher" not in page


def test_an_unfinished_pipeline_has_no_page(status: PipelineStatus, store: ArtifactStore, tmp_path: Path) -> None:
    key = status.plan.report.key
    running = status.model_copy(update={"states": status.states | {key: StageState()}})

    with pytest.raises(PipelineFailed, match="it has no results"):
        write_page(running, store, tmp_path / "page.html")

    assert not (tmp_path / "page.html").exists()


def test_a_page_that_cannot_be_written_leaves_nothing(
    status: PipelineStatus, store: ArtifactStore, tmp_path: Path
) -> None:
    (tmp_path / "folder" / "page.html").mkdir(parents=True)

    with pytest.raises(StoreUnavailable, match=r"page\.html"):
        write_page(status, store, tmp_path / "folder" / "page.html")

    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["page.html"]


@pytest.mark.parametrize("name", ["../x", "a/b", "", "..", "/etc/passwd"])
def test_a_page_lies_in_its_folder_whatever_a_pipeline_is_called(store: ArtifactStore, name: str) -> None:
    with pytest.raises(UnknownPipeline):
        store.report(name)


@pytest.mark.parametrize(
    ("shape", "mean", "shown"),
    [
        ((1, 8, 8), (1.0,), True),
        ((3, 300, 200), (1.0,) * 3, True),
        ((2, 8, 8), (1.0,) * 2, False),
        ((64,), (1.0,), False),
        ((1, 8, 8), (), False),
    ],
)
def test_images_have_one_or_three_channels(shape: tuple[int, ...], mean: tuple[float, ...], shown: bool) -> None:
    dataset = DatasetRecord(
        shape=shape, class_names=("a", "b"), train_samples=1, labelled_samples=1, validation_samples=0,
        test_samples=1, mean=mean, std=mean,
    )  # fmt: skip

    assert are_images(dataset) == shown
    for dtype in (np.uint8, np.float32) if shown else ():
        (uri,) = data_uris(np.arange(np.prod(shape)).reshape(1, *shape).astype(dtype))
        assert uri.startswith("data:image/png;base64,")
        assert len(uri) < 60_000


def test_a_figure_has_its_text_as_text_and_the_pages_colours() -> None:
    picture = Picture.drawn("x", "Title", "says", lambda axes: axes.set_xlabel("a & <b> $c$"))

    texts = [element.text for element in ET.fromstring(picture.svg).iter("text")]

    assert "a & <b> $c$" in texts
    assert "var(--ink)" in picture.svg
    assert not re.search(r"#[0-9a-f]{6}", picture.svg)


@pytest.mark.parametrize("scheme", [0, 1])
def test_the_words_in_a_heat_map_can_be_read_at_every_shade(scheme: int) -> None:
    page = (files("distill_queue.shared.report") / "report.html").read_text()
    card, heat, on_pale, on_heat = (
        np.array([int(re.findall(rf"--{name}: #(\w{{6}})", page)[scheme][at : at + 2], 16) for at in (0, 2, 4)]) / 255
        for name in ("card", "heat", "on-pale", "on-heat")
    )

    def contrast(one: np.ndarray, other: np.ndarray) -> float:
        # WCAG 2.2, relative luminance.
        linear = [np.where(each <= 0.04045, each / 12.92, ((each + 0.055) / 1.055) ** 2.4) for each in (one, other)]
        dark, light = sorted(float(each @ [0.2126, 0.7152, 0.0722]) for each in linear)
        return (light + 0.05) / (dark + 0.05)

    for shade in np.linspace(0, 1, 201):
        assert contrast((1 - shade) * card + shade * heat, on_heat if shade > DARK else on_pale) >= 4.5, shade


def test_a_sweep_of_many_classes_and_students_shows_the_worst_and_the_best(
    status: PipelineStatus, store: ArtifactStore, make_report: Callable[..., ReportFacts]
) -> None:
    facts = make_report(status, store, students=5, classes=60)

    page = render(facts)

    assert "the 20 most confused of 60 classes" in page
    assert "its 20 worst of 60 classes" in page
    assert "Shown are the best 3 of 5 students." in page


@pytest.fixture
def make_report() -> Callable[..., ReportFacts]:
    """Make the facts of a larger pipeline of those of a small one."""
    from dataclasses import replace

    def make(status: PipelineStatus, store: ArtifactStore, students: int, classes: int) -> ReportFacts:
        facts = ReportFacts.read(status, store)
        assert facts.targets is not None
        (student,) = facts.students
        report = status.plan.report
        runs = report.recipe.model_copy(update={"students": status.plan.students * students})
        plan = status.plan.model_copy(update={"report": report.model_copy(update={"recipe": runs})})
        names = tuple(f"class {number}" for number in range(classes))
        return replace(
            facts,
            status=status.model_copy(update={"plan": plan}),
            students=tuple(
                replace(
                    student,
                    score=student.score.model_copy(update={"name": f"s{number}"}),
                    graded=replace(student.graded, name=f"s{number}"),
                )
                for number in range(students)
            ),
            dataset=facts.dataset.model_copy(update={"class_names": names}),
            targets=np.arange(len(facts.targets)) % classes,
        )

    return make
