"""Records: read and written by other versions, too."""

from __future__ import annotations

from distill_queue.shared.results.records import ChoiceRecord, DatasetRecord, TrainingRecord

#: As earlier versions wrote it.
TRAINING = (
    '{"kind":"training","parameters":10,"epochs":1,"kept_epoch":1,"steps":3,"loss":0.5,"train_accuracy":0.9,'
    '"held_out_accuracy":null,"seconds":1.5,"together":1,"precision":"float32"}'
)
DATA = (
    '{"kind":"dataset","shape":[1,8,8],"class_names":["a","b"],"train_samples":8,"labelled_samples":8,'
    '"validation_samples":0,"test_samples":2,"mean":[0.0],"std":[1.0],'
    '"warnings":[{"kind":"of_next_year","text":"is odd"}]}'
)


def test_a_training_without_a_fallback_is_written_as_earlier_versions_read_it() -> None:
    assert TrainingRecord.model_validate_json(TRAINING).model_dump_json() == TRAINING


def test_a_fallback_and_skipped_steps_come_back_as_they_were_written() -> None:
    changes = {"fallback": "the gradients are far", "skipped_steps": 2}
    record = TrainingRecord.model_validate_json(TRAINING).model_copy(update=changes)

    assert TrainingRecord.model_validate_json(record.model_dump_json()) == record


def test_a_warning_of_a_kind_that_only_a_later_version_knows_is_read_and_shown() -> None:
    (warning,) = DatasetRecord.model_validate_json(DATA).warnings

    assert str(warning) == "is odd (of_next_year)"


def test_a_record_says_what_its_epochs_were_compared_by() -> None:
    changes = {"held_out_accuracy": 0.9, "best_by": "macro_f1", "held_out_measure": 0.75}
    record = TrainingRecord.model_validate_json(TRAINING).model_copy(update=changes)

    assert TrainingRecord.model_validate_json(record.model_dump_json()) == record
    assert "90.0%, macro F1 75.0% held out" in record.summary


def test_a_choice_by_loss_is_of_the_lowest() -> None:
    choice = ChoiceRecord(labels=("a 1", "a 2", "a 3"), held_out=(0.5, 0.25, 0.25), best_by="loss", trained={})

    assert choice.best == 1
    assert choice.summary == "a 2: loss 0.250 held out, best of 3, the first of 2 equal ones"
    assert "best_by" not in choice.model_copy(update={"best_by": None}).model_dump_json()
