"""The space of a study: its dimensions, and the candidates in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.cli.tune import Outcome
from distill_queue.scheduler.tune.space import Choice, Range, Space
from distill_queue.scheduler.tune.study import Study
from distill_queue.scheduler.tune.tuned_spec import TunedSpec, yaml_of
from distill_queue.shared.errors import InvalidSettings, InvalidSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from tests.conftest import small_spec


def student(**changes: Any) -> dict[str, Any]:
    return {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 2}} | changes


def tuned(*students: dict[str, Any], name: str | None = None, **changes: Any) -> TunedSpec:
    return TunedSpec.of(SpecFile.of(small_spec(students=list(students), **changes)), name)


def parsed(text: str) -> PipelineSpec:
    return PipelineSpec.from_file(SpecFile.parse(text, SpecFile.of({}).path.with_suffix(".yaml")))


def space(**changes: Any) -> Space:
    return tuned(student(**changes)).space


def test_a_student_that_says_nothing_has_the_usual_space_around_its_own_values() -> None:
    found = space(training={"epochs": 2, "learning_rate": 0.002}, distillation={"temperature": 30, "alpha": 0.05})

    assert [each.words for each in found.dimensions] == [
        "temperature 1 to 30",
        "alpha 0.05 to 1",
        "learning_rate 0.0002 to 0.02",
        "loss kd, standardised kd, dkd, dist",
    ]
    assert found.start == {"temperature": 30, "alpha": 0.05, "learning_rate": 0.002, "loss": "kd"}


def test_a_loss_with_options_that_others_do_not_have_stays() -> None:
    found = space(distillation={"loss": "dkd", "others_weight": 2.0})
    assert [each.name for each in found.dimensions] == ["temperature", "alpha", "learning_rate"]


def test_a_student_with_a_grid_or_a_range_has_these_only() -> None:
    found = space(
        model={"name": "mlp", "hidden": {"grid": [[8], [8, 4]]}},
        distillation={"temperature": {"between": [2, 8], "scale": "log"}},
    )

    hidden, temperature = found.dimensions
    assert isinstance(hidden, Choice)
    assert list(hidden.options) == ["8", "8-4"]
    assert isinstance(temperature, Range)
    assert (temperature.start, temperature.log, temperature.whole) == (4, True, False)


def test_a_range_is_of_whole_numbers_where_its_field_is() -> None:
    found = space(training={"epochs": {"between": [2, 9]}, "learning_rate": {"between": [1.0e-3, 3.0e-3]}})

    epochs, rate = found.dimensions
    assert isinstance(epochs, Range)
    assert isinstance(rate, Range)
    assert (epochs.whole, rate.whole) == (True, False)
    assert found.candidate({"epochs": 7, "learning_rate": 0.002}).training.epochs == 7


def test_a_candidate_has_few_digits_and_stays_between_the_ends() -> None:
    found = space(distillation={"alpha": {"between": [0.12345, 0.9]}})

    values = [found.rounded({"alpha": alpha}) for alpha in (0.5123456, 0.12345001, 0.8999)]
    assert values == [{"alpha": 0.512}, {"alpha": 0.12345}, {"alpha": 0.9}]


def test_fields_of_one_name_keep_their_places_in_their_names() -> None:
    found = space(
        training={"epochs": 2, "precision": {"grid": ["auto", "float32"]}},
        distillation={"loss": {"grid": ["kd", "dkd"]}},
    )
    assert {each.name for each in found.dimensions} == {"precision", "loss"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"distillation": {"temperature": {"between": [5, 1]}}}, "temperature: the lower end comes first"),
        ({"distillation": {"temperature": {"between": [-5, 1]}}}, "temperature: input should be greater than 0"),
        ({"distillation": {"alpha": {"between": [0, 2]}}}, "alpha: input should be less than or equal to 1"),
        ({"training": {"epochs": {"between": [1.5, 3.5]}}}, "epochs: input should be a valid integer"),
        ({"training": {"seed": {"between": [1, 3]}}}, "training.seed: cannot differ from candidate to candidate"),
        ({"distillation": {"alpha": {"grid": []}}}, "alpha: the grid has no values"),
        ({"distillation": {"alpha": {"grid": [0.5, 0.5]}}}, "alpha: a value stands twice in the grid"),
        ({"model": {"name": "mlp", "hidden": [{"between": [1, 9]}]}}, "a list has no ranges: write a grid of lists"),
    ],
)
def test_what_spans_no_space_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        space(**changes)


def test_values_that_do_not_go_together_are_refused_in_words() -> None:
    found = space(distillation={"loss": {"grid": ["dkd", "kd"]}, "others_weight": {"grid": [8.0, 2.0]}})

    with pytest.raises(InvalidSpec, match=r"with loss kd, others_weight 2: .*belongs to loss 'dkd', not to 'kd'"):
        found.candidate({"loss": "kd", "others_weight": "2"})


def test_a_range_outside_of_the_student_is_refused() -> None:
    teacher = {"model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": {"between": [1, 2]}}}
    with pytest.raises(InvalidSpec, match=r"teacher.training.epochs: a range is for 'distill tune', in a student"):
        tuned(student(), teacher=teacher)


def test_one_of_several_students_is_named() -> None:
    students = student(), student(name="other", distillation={"alpha": {"between": [0.1, 0.5]}})

    assert tuned(*students, name="other").student.name == "other"
    with pytest.raises(InvalidSettings, match="--student: say which of the 2 students is tuned: small, other"):
        tuned(*students)
    with pytest.raises(InvalidSettings, match="no student is named 'othr'; did you mean 'other'"):
        tuned(*students, name="othr")


def test_a_tenth_of_the_samples_is_held_out_where_the_spec_holds_out_none() -> None:
    ours, theirs = tuned(student()), tuned(student(), dataset={"name": "digits", "validation": 0.2})

    assert (ours.is_validation_ours, ours.spec.dataset.validation) == (True, 0.1)
    assert (theirs.is_validation_ours, theirs.spec.dataset.validation) == (False, 0.2)


@pytest.mark.parametrize(("training", "said"), [({"keep": "best", "best_by": "macro_f1"}, True), ({}, False)])
def test_a_study_says_that_it_compares_by_accuracy_where_epochs_are_compared_otherwise(
    training: dict[str, Any], said: bool, tmp_path: Path
) -> None:
    study = tuned(student(training={"epochs": 2} | training), dataset={"name": "digits", "validation": 0.2})
    outcome = Outcome(study, Study(study.space, 0), FolderStore(tmp_path), tmp_path, "x", {})

    lines = list(outcome.introduction())

    assert ("Candidates are compared by accuracy; 'best_by: macro_f1' chooses their epochs alone" in lines) == said


def test_a_study_has_one_name_and_another_for_another_seed_or_space() -> None:
    other = student(distillation={"alpha": {"between": [0.1, 0.5]}})
    names = {tuned(student()).study_id(0), tuned(student()).study_id(1), tuned(other).study_id(0)}

    assert tuned(student()).study_id(0) in names
    assert len(names) == 3


def test_the_best_spec_is_read_as_it_was_written() -> None:
    read = tuned(student(seeds=3), average="probabilities")
    best = read.with_student(read.space.candidate({**read.space.start, "loss": "dist", "temperature": 2.5}))

    text = yaml_of(read, best.students[0], {}, ["found by a test"])

    assert text.startswith("# found by a test\n# The study held out 10% of the training samples; below none are")
    assert parsed(text) == best.model_copy(update={"dataset": PipelineSpec.of(small_spec()).dataset})


def test_the_best_spec_holds_out_what_its_file_does_unless_it_chooses_by_the_studys_share() -> None:
    theirs = tuned(student(), dataset={"name": "digits", "validation": 0.2})
    chooses = tuned(student(training={"epochs": 2, "keep": "best"}))

    shares = [parsed(yaml_of(each, each.student, {}, [])).dataset.validation for each in (theirs, chooses)]
    assert shares == [0.2, 0.1]


def test_the_best_spec_names_data_where_they_are_found_and_pins_no_content() -> None:
    read = tuned(student(), dataset={"name": "image_folder", "path": "photos", "size": 8})
    known = read.spec.dataset.model_copy(update={"content": "a" * 64})
    read = replace(read, spec=read.spec.model_copy(update={"dataset": known}))

    dataset = parsed(yaml_of(read, read.student, {"path": "/data/photos"}, [])).dataset
    assert dataset == read.spec.dataset.model_copy(update={"content": None, "path": "/data/photos", "validation": 0.0})


def test_data_that_hold_out_samples_of_their_own_get_no_share() -> None:
    source = SpecFile.of(small_spec(dataset={"name": "image_folder", "path": "photos", "size": 8}))

    own, ours = (TunedSpec.of(source, None, holds_out=lambda _, own=own: own) for own in (True, False))
    assert (own.is_validation_ours, own.spec.dataset.validation) == (False, 0.0)
    assert (ours.is_validation_ours, ours.spec.dataset.validation) == (True, 0.1)


def test_data_that_only_workers_see_may_hold_out_samples_in_place_of_the_studys_share() -> None:
    hub = {"name": "huggingface/a/b", "revision": "0" * 40, "image": {"size": 8}}

    read = TunedSpec.of(SpecFile.of(small_spec(dataset=hub)), None, holds_out=lambda _: None)

    assert (read.spec.dataset.validation, read.spec.dataset.own_validation) == (0.1, "take")
    text = yaml_of(read, read.student, {}, [])
    assert "# The study held out 10% of the training samples, unless the data bring some of their own; below" in text
    assert parsed(text).dataset.own_validation == "refuse"


@pytest.mark.parametrize(
    ("ends", "start"), [([0.6, 1.0], 0.8), ([0, 1], 0.5), ([0.0, 1.0], 0.5)], ids=["to the limit", "whole", "both"]
)
def test_a_range_that_ends_at_its_fields_limit_is_of_fractions_where_the_field_takes_them(
    ends: list[float], start: float
) -> None:
    (alpha,) = space(distillation={"alpha": {"between": ends}}).dimensions

    assert isinstance(alpha, Range)
    assert not alpha.whole
    assert alpha.start == pytest.approx(start)


def test_what_changes_over_the_training_is_not_searched_unasked() -> None:
    found = space(distillation={"temperature": {"from": 8, "to": 1}})

    assert [each.name for each in found.dimensions] == ["alpha", "learning_rate", "loss"]


def test_a_key_between_at_the_top_of_a_spec_is_an_unknown_key() -> None:
    with pytest.raises(InvalidSpec, match="between: unknown key"):
        PipelineSpec.of(small_spec() | {"between": [1, 2]})


def test_given_labels_need_the_share_that_is_held_out_to_be_said() -> None:
    with pytest.raises(InvalidSpec, match=r"teacher\.soft_labels: .*set dataset\.validation"):
        tuned(student(), teacher={"soft_labels": "labels.npz"})
