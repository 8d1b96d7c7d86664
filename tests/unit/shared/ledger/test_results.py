"""Results as rows: every model with what it was on the held-out samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

MakeSpec = Callable[..., PipelineSpec]
SMALL = {"name": "mlp", "hidden": [8]}
SHORT = {"model": SMALL, "training": {"epochs": 1}}
GRID = SHORT | {"name": "chosen", "distillation": {"temperature": {"grid": [1.0, 4.0]}}, "seeds": 2}


def results_of(spec: PipelineSpec, folder: Path) -> tuple[PipelineResults, dict[str, Any]]:
    """A pipeline's results, and its records by title."""
    plan = Plan.of(spec)
    runner = StageRunner(FolderStore(folder), Runtime(torch.device("cpu")), lambda *_: None)
    records = tuple(
        StageRecord(
            key=stage.key, kind=stage.kind, title=stage.title, outcome="computed", seconds=1.0, worker="w",
            record=runner.run(stage).record,
        )
        for stage in plan.stages
    )  # fmt: skip
    report = records[-1].record
    assert isinstance(report, ReportRecord)
    return PipelineResults.of("made-1", plan, report, records), {each.title: each.record for each in records}


def test_rows_have_the_held_out_accuracy_of_each_training_and_of_the_chosen_ones(
    make_spec: MakeSpec, tmp_path: Path
) -> None:
    students = [SHORT | {"name": "twin"}, SHORT | {"name": "same"}, GRID]
    spec = make_spec(dataset={"name": "digits", "validation": 0.2}, students=students)

    results, records = results_of(spec, tmp_path)

    rows = {(row["model"], row["role"], row["seed"]): row["held_out_accuracy"] for row in results.rows()}
    assert rows["teacher", "teacher", None] == records["train teacher"].held_out_accuracy > 0.0
    twin = records["distill twin"].held_out_accuracy
    assert rows["twin", "student", 0] == rows["same", "student", 0] == twin > 0.0
    assert rows["twin", "control", 0] == records["train twin/control"].held_out_accuracy
    for seed in (0, 1):
        assert rows["chosen", "student", seed] == records["choose chosen"].trained[seed].held_out_accuracy
        assert rows["chosen", "control", seed] is not None
    assert PipelineResults.model_validate_json(results.model_dump_json()) == results


def test_rows_have_none_where_nothing_is_held_out(make_spec: MakeSpec, tmp_path: Path) -> None:
    results, _ = results_of(make_spec(), tmp_path)

    assert {row["held_out_accuracy"] for row in results.rows()} == {None}


def test_rows_take_any_name(make_spec: MakeSpec, tmp_path: Path) -> None:
    results, _ = results_of(make_spec(), tmp_path)
    (student,) = results.scores.students
    scores = results.scores.model_copy(update={"students": (student.model_copy(update={"name": "<b>"}),)})

    assert [row["model"] for row in results.model_copy(update={"scores": scores}).rows()] == ["teacher", "<b>", "<b>"]


@pytest.mark.parametrize(("trained", "words"), [(None, "1,000"), (90, "1,000 (90 trained)")])
def test_frozen_parameters_are_told_in_words(
    make_spec: MakeSpec, tmp_path: Path, trained: int | None, words: str
) -> None:
    _, records = results_of(make_spec(), tmp_path)
    record = records["evaluate small"].model_copy(update={"parameters": 1000, "trained_parameters": trained})

    assert record.parameters_in_words == words
    assert ("trained_parameters" in record.model_dump()) == (trained is not None)
