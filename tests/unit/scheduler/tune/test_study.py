"""Studies: what is asked for, what is dropped, and that all of it happens once more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna  # noqa: F401 (here, as its import takes longer than a test may)
import pytest

from distill_queue.scheduler.tune.page import write_study_page
from distill_queue.scheduler.tune.rung import CANDIDATES, RUNGS, SEEDS, Rung
from distill_queue.scheduler.tune.space import Space
from distill_queue.scheduler.tune.study import Study
from distill_queue.scheduler.tune.trial import Trial, best_of
from distill_queue.scheduler.tune.tuned_spec import TunedSpec
from distill_queue.shared.errors import PipelineFailed
from distill_queue.shared.spec.file import SpecFile
from tests.conftest import small_spec


@pytest.fixture
def space() -> Space:
    return TunedSpec.of(SpecFile.of(small_spec()), None).space


def good(trial: Trial) -> float:
    """An accuracy that is best at alpha 0.3 with dist."""
    return 0.9 - abs(trial.student.distillation.alpha - 0.3) - 0.05 * (trial.student.distillation.loss != "dist")


def trained(trials: list[Trial], rung: Rung) -> bool:
    for trial in trials:
        trial.held_out.append(good(trial))
    return True


def asked(study: Study, train: Callable[[list[Trial], Rung], bool], most: int) -> list[dict[str, object]]:
    for _ in study.rounds(train, most):
        pass
    return [dict(trial.values) for trial in study.trials]


def test_the_first_candidate_is_the_spec_itself_and_is_trained_in_full(space: Space) -> None:
    study = Study(space, 0)
    asked(study, trained, CANDIDATES)

    first = study.trials[0]
    assert first.values == space.start
    assert len(first.held_out) == len(RUNGS)


def test_the_best_quarter_of_a_round_is_trained_in_full(space: Space) -> None:
    study = Study(space, 0)
    asked(study, trained, CANDIDATES)

    ranked = sorted(study.trials, key=good, reverse=True)
    full = [trial for trial in ranked if len(trial.held_out) == len(RUNGS)]
    assert full[:4] == ranked[:4]
    assert len(full) <= 5
    assert best_of(study.trials, len(RUNGS)) is ranked[0]


def test_a_study_asks_for_the_same_candidates_again_and_then_for_more(space: Space) -> None:
    first = asked(Study(space, 0), trained, 2 * CANDIDATES)
    again = asked(Study(space, 0), trained, 3 * CANDIDATES)
    other = asked(Study(space, 1), trained, 2 * CANDIDATES)

    assert again[: 2 * CANDIDATES] == first
    assert other != first


def test_time_that_runs_out_in_a_round_leaves_what_was_trained_before(space: Space) -> None:
    def without_time(trials: list[Trial], rung: Rung) -> bool:
        return trials[0].number < CANDIDATES and trained(trials, rung)

    study = Study(space, 0)
    asked(study, without_time, 100)

    assert len(study.trials) == 2 * CANDIDATES
    best = best_of(study.trials, len(RUNGS))
    assert best is not None
    assert best.number < CANDIDATES


def test_a_candidate_that_failed_is_dropped(space: Space) -> None:
    def fail_some(trials: list[Trial], rung: Rung) -> bool:
        for trial in trials:
            if trial.number % 2:
                trial.error = "its loss is not finite"
            else:
                trial.held_out.append(good(trial))
        return True

    study = Study(space, 0)
    asked(study, fail_some, CANDIDATES)

    assert all(not trial.held_out for trial in study.trials if trial.error)


def test_a_study_goes_on_after_a_round_whose_candidates_all_fail(space: Space) -> None:
    def fail_second_round(trials: list[Trial], rung: Rung) -> bool:
        if trials[0].number // CANDIDATES != 1:
            return trained(trials, rung)
        for trial in trials:
            trial.error = "the loss is not finite"
        return True

    study = Study(space, 0)
    asked(study, fail_second_round, 3 * CANDIDATES)

    assert len(study.trials) == 3 * CANDIDATES
    assert study.trials[-1].held_out
    assert not study.failure


@pytest.mark.parametrize("rung", RUNGS)
def test_a_study_ends_when_its_first_rounds_fail_for_one_reason(space: Space, rung: Rung) -> None:
    def fail(trials: list[Trial], now: Rung) -> bool:
        if now != rung:
            return trained(trials, now)
        for trial in trials:
            trial.error = f"the loss is not finite in step {trial.number}"
        return True

    study = Study(space, 0)
    with pytest.raises(PipelineFailed, match="none of 32 candidates can be trained: the loss is not finite in step"):
        asked(study, fail, 10 * CANDIDATES)


def test_a_study_goes_on_while_its_rounds_fail_for_several_reasons(space: Space) -> None:
    def fail(trials: list[Trial], _: Rung) -> bool:
        for trial in trials:
            trial.error = ("the loss is not finite", "not enough memory")[trial.number % 2]
        return True

    study = Study(space, 0)
    asked(study, fail, 4 * CANDIDATES)

    assert len(study.trials) == 4 * CANDIDATES
    assert study.failure == "none of 64 candidates can be trained: the loss is not finite"


def test_what_matters_is_told(space: Space) -> None:
    study = Study(space, 0)
    asked(study, trained, 3 * CANDIDATES)

    importances = study.importances()
    assert set(importances) == set(space.start)
    assert next(iter(importances)) == "alpha"


def test_rungs_train_with_seeds_that_the_final_pipeline_does_not_have(space: Space) -> None:
    student = space.candidate(space.start).model_copy(update={"seeds": 2})
    first, last = (rung.trained(student) for rung in RUNGS)

    assert (first.training.epochs, first.seeds) == (1, 1)
    assert (last.training.epochs, last.seeds) == (student.training.epochs, SEEDS)
    assert first.training.seed == last.training.seed == student.training.seed + 2


def test_the_page_shows_trials_and_what_mattered(space: Space, tmp_path: Path) -> None:
    study, path = Study(space, 0), tmp_path / "study.html"
    asked(study, trained, CANDIDATES)

    write_study_page(
        path, "tiny-tune", ("The <best>.",), study.trials, space.dimensions, study.importances(), (tmp_path / "a", "b")
    )

    page = path.read_text()
    assert "The &lt;best&gt;." in page
    assert all(title in page for title in ("Trials", "What mattered", "Importance", "Best spec"))
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_a_study_ends_when_all_of_its_space_was_tried() -> None:
    student = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 4}}
    student |= {"distillation": {"temperature": {"grid": [2, 4]}}}
    study = Study(TunedSpec.of(SpecFile.of(small_spec(students=[student])), None).space, 0)

    for _ in study.rounds(trained, None):
        pass

    assert {trial.words for trial in study.trials} == {"temperature 2", "temperature 4"}
