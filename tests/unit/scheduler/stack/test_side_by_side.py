"""How many workers `distill run` starts where it is not told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distill_queue.scheduler.stack import side_by_side
from distill_queue.scheduler.stack.side_by_side import MOST_WORKERS, workers_for
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]
SMALL = {"model": {"name": "mlp", "hidden": [512, 256]}, "training": {"epochs": 1, "batch_size": 256}}
CNN = {"model": {"name": "cnn"}, "training": {"epochs": 1}}
WIDE = {"model": {"name": "mlp", "hidden": [4096]}, "training": {"epochs": 1, "batch_size": 256}}


@pytest.fixture
def workers(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Find how many workers a machine with some cores and no GPU starts for the small pipeline with changes."""

    def found(cores: int = 2, settings: Settings | None = None, **changes: Any) -> int:
        monkeypatch.setattr(side_by_side, "cores", lambda: cores)
        monkeypatch.setattr(side_by_side, "has_gpu", lambda: False)
        return workers_for(Plan.of(make_spec(**changes)), settings or Settings())

    return found


def test_a_small_student_and_its_control_have_a_worker_each(workers: Callable[..., int]) -> None:
    assert workers(teacher=SMALL) == 2


def test_there_are_no_more_workers_than_cores(workers: Callable[..., int]) -> None:
    assert workers(cores=1, teacher=SMALL) == 1


def test_a_student_without_a_control_needs_one_worker(workers: Callable[..., int]) -> None:
    assert workers(teacher=SMALL, evaluation={"control": False}) == 1


@pytest.mark.parametrize("teacher", [CNN, WIDE], ids=["convolutions", "a wide layer"])
def test_a_teacher_that_needs_all_cores_has_them(workers: Callable[..., int], teacher: dict[str, Any]) -> None:
    assert workers(teacher=teacher) == 1


def test_threads_that_the_settings_name_are_those_of_one_worker(workers: Callable[..., int]) -> None:
    assert workers(teacher=SMALL, settings=Settings(threads=1)) == 1


def test_many_students_that_are_trained_one_by_one_do_not_fill_the_memory(workers: Callable[..., int]) -> None:
    students = [
        {"name": f"s{width}", "model": {"name": "mlp", "hidden": [width]}, "training": {"epochs": 1}}
        for width in range(8, 16)
    ]

    assert workers(cores=64, teacher=SMALL, students=students) == MOST_WORKERS


def test_a_machine_with_a_gpu_starts_one_worker(make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "cores", lambda: 8)
    monkeypatch.setattr(side_by_side, "has_gpu", lambda: True)

    assert workers_for(Plan.of(make_spec(teacher=SMALL)), Settings()) == 1


@pytest.mark.parametrize("dataset", ["own.package:read", "cifar10"])
def test_data_that_are_large_or_unknown_are_held_by_one_worker(workers: Callable[..., int], dataset: str) -> None:
    assert workers(cores=8, teacher=SMALL, dataset={"name": dataset}) == 1
