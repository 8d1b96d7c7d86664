"""What the tests of a report share: a finished pipeline, models made up, and what an SVG shows."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from distill_queue.shared.ledger.status import PipelineStatus, StageState
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.entries import EvaluatedModel, Role, Student
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.page import render
from distill_queue.shared.report.svg import Picture
from distill_queue.shared.results.history import History
from distill_queue.shared.results.predictions import Predictions
from distill_queue.shared.results.scores import StudentRun
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, Manifest
from distill_queue.worker.evaluation.scores import score
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner
from tests.conftest import small_spec
from tests.unit.conftest import evaluation

HOSTILE = ('<script>alert("x")</script>', "'\"><img src=x onerror=alert(1)>", "$\\frac{", "\x00\u202e\n", "汉字")
SUBMITTED = 1_000_000.0
CPU = Runtime(torch.device("cpu"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[PipelineStatus, Path]:
    """A pipeline that was done, and its store; not to be changed."""
    return run(PipelineSpec.model_validate(small_spec()), tmp_path_factory.mktemp("finished"))


@pytest.fixture(scope="session")
def status(finished: tuple[PipelineStatus, Path]) -> PipelineStatus:
    """Where that pipeline stands."""
    return finished[0]


@pytest.fixture
def store(finished: tuple[PipelineStatus, Path], tmp_path: Path) -> FolderStore:
    """A copy of its store."""
    shutil.copytree(finished[1], tmp_path / "store")
    return FolderStore(tmp_path / "store")


@pytest.fixture(scope="session")
def facts(finished: tuple[PipelineStatus, Path]) -> ReportFacts:
    """The facts of that pipeline."""
    return ReportFacts.read(finished[0], FolderStore(finished[1]))


@pytest.fixture(scope="session")
def page(facts: ReportFacts) -> str:
    """The page of that pipeline, with spaces that may break."""
    return render(facts).replace("\u00a0", " ")


def run(spec: PipelineSpec, folder: Path) -> tuple[PipelineStatus, Path]:
    plan, store, states = Plan.of(spec), FolderStore(folder), {}
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
    """A status with changes in the record of one of its stages."""
    key = status.plan.stages[stage].key
    state = status.states[key]
    assert state.record is not None
    record = state.record.model_copy(update=changes)
    return status.model_copy(update={"states": status.states | {key: state.model_copy(update={"record": record})}})


def page_of(status: PipelineStatus, store: FolderStore) -> str:
    return render(ReportFacts.read(status, store)).replace("\u00a0", " ")


def without_files(store: FolderStore, status: PipelineStatus, title: str, *names: str) -> None:
    """Make an artifact one of a version that kept fewer files."""
    (stage,) = (stage for stage in status.plan.stages if stage.title == title)
    folder = store.folder(stage.ref)
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    for name in names:
        (folder / name).unlink()
    files = {name: entry for name, entry in manifest.files.items() if name not in names}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).sealed().model_dump_json())


def texts(picture: Picture) -> list[str]:
    return [element.text or "" for element in ET.fromstring(picture.svg).iter("text")]


def marks(picture: Picture, colour: str) -> list[tuple[float, float]]:
    """Positions of the marks of a colour, from the left and from above; those in the legend come last."""
    uses = (each for each in ET.fromstring(picture.svg).iter("use") if f"var(--{colour})" in each.get("style", ""))
    return [(float(each.get("x", 0)), float(each.get("y", 0))) for each in uses]


def model(
    name: str, role: Role = "student", accuracy: float = 0.5, parameters: int = 100, classes: Sequence[int] = ()
) -> EvaluatedModel:
    record = evaluation(accuracy, parameters).model_copy(update={"latency_median_ms": parameters / 1000})
    said = (Predictions(np.array(classes, np.uint8), np.full(len(classes), 0.9, np.float32)),) if classes else ()
    return EvaluatedModel(name, role, (record,), record, said)


def with_histories(made: EvaluatedModel, *histories: Sequence[tuple[float, float, float | None]]) -> EvaluatedModel:
    return replace(made, histories=tuple(History.of(list(each)) for each in histories))


def student(made: EvaluatedModel, control: EvaluatedModel | None = None) -> Student:
    other = control.evaluations[0] if control else None
    return Student(
        score(made.name, (StudentRun(seed=0, student=made.evaluations[0], control=other),), None), made, control
    )
