"""Data that are warned about because they are seldom intended, and data that are not."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distill_queue.shared.catalog import DATASETS, WARNING_KINDS
from distill_queue.shared.results.records import DatasetRecord, DataWarning
from distill_queue.shared.spec.sources.named import NamedDatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.checks import check
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources.fashion_mnist import DEBIAN_FASHION_MNIST
from distill_queue.worker.machine.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
RANDOM = np.random.default_rng(0)
HERE = [name for name in ("digits", "mnist_5k") if name in DATASETS] + (
    ["fashion_mnist"] if DEBIAN_FASHION_MNIST.is_dir() else []
)
Array = npt.NDArray[Any]


def table(samples: int) -> Array:
    return RANDOM.normal(size=(samples, 5)).astype(np.float32)


def warned(
    train: Array, test: Array, train_inputs: Array | None = None, test_inputs: Array | None = None, **others: Any
) -> dict[str, str]:
    """The text of each kind of warning."""
    train_inputs = table(len(train)) if train_inputs is None else train_inputs
    test_inputs = table(len(test)) if test_inputs is None else test_inputs
    names = others.get("names") or [str(number) for number in range(int(max(train.max(), test.max())) + 1)]
    found = list(check(train_inputs, train, test_inputs, test, names))
    assert len({warning.kind for warning in found}) == len(found)
    return {warning.kind: warning.text for warning in found}


def labels(*classes: int, samples: int = 60) -> Array:
    return np.array(classes)[np.arange(samples) % len(classes)]


def test_labels_that_skip_numbers_are_told_with_how_many_classes_have_no_sample() -> None:
    found = warned(labels(3, 7, 40, 0), labels(3, 7, 40, 0))

    assert list(found) == ["unused_classes"]
    assert found["unused_classes"].startswith("37 of 41 classes (1, 2, 4, 5, 6 and 32 more) have no training sample")
    assert warned(labels(0, 1, 2, 3), labels(0, 1, 2, 3)) == {}


def test_a_class_that_is_tested_and_never_trained_is_told_with_its_samples() -> None:
    found = warned(labels(0, 1), labels(0, 1, 2, samples=9), names=["cat", "dog", "cow"])

    assert list(found) == ["unused_classes"]
    assert found["unused_classes"].startswith("1 of 3 classes (cow) has no training sample")
    assert found["unused_classes"].endswith("3 test samples are of cow, and no model can be right on these")


def test_labels_from_1_on_are_told_in_these_words_and_not_as_an_unused_class() -> None:
    found = warned(labels(1, 2, 3), labels(1, 2, 3))

    assert list(found) == ["one_based_labels"]
    assert found["one_based_labels"].startswith("the smallest label is 1 and class 0 has no sample")


def test_labels_from_1_on_that_also_skip_numbers_are_told_as_both() -> None:
    found = warned(labels(1, 2, 4), labels(1, 2, 4))

    assert list(found) == ["one_based_labels", "unused_classes"]
    assert found["unused_classes"].startswith("1 of 5 classes (3) has no training sample")


def test_class_0_in_one_split_is_enough_for_labels_from_0_on() -> None:
    assert "one_based_labels" not in warned(labels(1, 2), labels(0, 1, 2))
    assert "one_based_labels" not in warned(labels(0, 1, 2), labels(1, 2))


def test_a_class_that_only_chance_could_leave_untested_is_told_and_a_rare_one_is_not() -> None:
    found = warned(labels(0, 1, 2, samples=300), labels(0, 1, samples=100))
    rare = np.concatenate([labels(0, 1, samples=300), [2] * 10])

    assert list(found) == ["untested_classes"]
    assert found["untested_classes"].startswith("1 of 3 classes (2) has training samples and no test sample, of 100")
    assert warned(rare, labels(0, 1, samples=100)) == {}


def test_a_class_with_a_single_sample_is_told_and_one_with_two_is_not() -> None:
    once, twice = (np.concatenate([labels(0, 1), [2] * count]) for count in (1, 2))

    assert warned(once, labels(0, 1, samples=10)) == {
        "small_classes": "1 of 3 classes (2) has a single training sample"
    }
    assert warned(twice, labels(0, 1, samples=10)) == {}


def test_a_class_with_hardly_a_sample_is_told_where_most_classes_have_many() -> None:
    found = warned(np.concatenate([labels(0, 1, 2, samples=900), [3] * 5]), labels(0, 1, 2, 3, samples=12))

    assert found == {
        "small_classes": "1 of 4 classes (3) has 5 training samples at the most, half of all classes 300 or more"
    }


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((28, 28, 1), True),
        ((32, 48, 3), True),
        ((8, 8, 4), True),
        ((1, 28, 28), False),
        ((3, 32, 48), False),
        ((4, 4, 1), False),
        ((3, 8, 3), False),
        ((28, 28), False),
        ((100, 3), False),
        ((16, 16, 16), False),
        ((2, 16, 16, 3), False),
    ],
)
def test_images_with_the_channels_last_are_told_and_other_shapes_are_not(shape: tuple[int, ...], told: bool) -> None:
    train, test = (RANDOM.integers(0, 256, (samples, *shape), dtype=np.uint8) for samples in (20, 10))

    found = warned(labels(0, 1, samples=20), labels(0, 1, samples=10), train, test)

    assert list(found) == (["channels_last"] if told else [])
    if told:
        assert found["channels_last"].startswith(f"samples of shape {shape} look like images with the channels last")
        assert str([shape[2], shape[0], shape[1]])[1:-1] in found["channels_last"]


def test_tokens_are_no_images() -> None:
    tokens = RANDOM.integers(0, 256, (30, 9, 9, 2))

    assert warned(labels(0, 1, samples=20), labels(0, 1, samples=10), tokens[:20], tokens[20:]) == {}


def test_test_samples_that_are_trained_on_are_counted() -> None:
    train, test = (RANDOM.integers(0, 256, (samples, 1, 8, 8), dtype=np.uint8) for samples in (400, 100))
    test[:7] = train[100:107]

    found = warned(labels(0, 1, samples=400), labels(0, 1, samples=100), train, test)

    assert list(found) == ["test_samples_in_training"]
    assert found["test_samples_in_training"].startswith("7 of 100 test samples (7.0%) are among the training samples")


def test_as_few_equal_samples_as_well_known_sets_have_are_not_told() -> None:
    train, test = (RANDOM.integers(0, 256, (samples, 1, 8, 8), dtype=np.uint8) for samples in (400, 1000))
    test[:9] = train[:9]

    assert warned(labels(0, 1, samples=400), labels(0, 1, samples=1000), train, test) == {}


def test_rows_of_few_numbers_that_are_equal_by_nature_are_not_told_and_a_copied_test_set_is() -> None:
    natural = RANDOM.integers(0, 3, (500, 4), dtype=np.uint8)
    measured = table(400)

    assert warned(labels(0, 1, samples=400), labels(0, 1, samples=100), natural[:400], natural[400:]) == {}
    copied = warned(labels(0, 1, samples=400), labels(0, 1, samples=100), measured, measured[:100])
    assert copied["test_samples_in_training"].startswith("100 of 100 test samples (100.0%)")


@given(st.data())
def test_random_healthy_data_are_never_warned_of(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 12))
    per_class = data.draw(st.integers(2, 20))
    dtype = data.draw(st.sampled_from([np.uint8, np.float32, np.int16]))
    shape = data.draw(st.sampled_from([(1, 8, 8), (3, 6, 7), (4,), (1,), (40,), (12, 3)]))
    values = data.draw(st.integers(2, 250))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    samples = classes * per_class
    inputs = (
        random.normal(size=(2 * samples, *shape))
        if dtype == np.float32
        else random.integers(0, values if np.prod(shape) < 32 else 250, (2 * samples, *shape))
    )
    inputs, targets = inputs.astype(dtype), random.permutation(np.arange(samples) % classes)

    assert warned(targets, targets, inputs[:samples], inputs[samples:]) == {}


@given(arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 30)), st.data())
def test_any_labels_are_described_without_an_error(train: Array, data: st.DataObject) -> None:
    test = data.draw(arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(0, 30)))

    found = warned(train, test)

    missing = set(range(max(train.max(), test.max()) + 1)) - set(train.tolist())
    one_based = min(train.min(), test.min()) == 1
    assert ("one_based_labels" in found) == one_based
    assert ("unused_classes" in found) == bool(missing - ({0} if one_based else set()))


def test_mapped_inputs_are_never_read_as_a_whole(tmp_path: Path) -> None:
    mapped = np.lib.format.open_memmap(tmp_path / "inputs.npy", "w+", np.uint8, (64, 1, 1000, 1000))  # type: ignore[no-untyped-call]
    mapped[:, 0, 0, 0] = np.arange(64)
    tracemalloc.start()

    found = list(check(mapped[:48], labels(0, 1, samples=48), mapped[48:], labels(0, 1, samples=16), ["a", "b"]))

    assert found == []
    assert tracemalloc.get_traced_memory()[1] < 4_000_000
    tracemalloc.stop()


@pytest.fixture(params=HERE)
def given(request: pytest.FixtureRequest) -> Arrays:
    """Each built-in data set that is here without a network."""
    return load(NamedDatasetSpec(name=request.param), Reading(CPU))


def test_of_built_in_data_nothing_is_told_and_their_records_are_as_they_were(given: Arrays) -> None:
    record = given.describe()

    assert record.warnings == ()
    assert list(record.model_dump(mode="json")) == [
        field for field in DatasetRecord.model_fields if field not in ("warnings", "content", "inputs", "largest")
    ]
    assert list(check(given.train_inputs, given.train_targets, given.test_inputs, given.test_targets, range(10))) == []


@pytest.mark.parametrize("changes", [{}, {"validation": 0.2}, {"labelled": 300, "validation": 0.1}])
def test_data_are_described_as_they_are_when_they_are_packed(tmp_path: Path, changes: dict[str, Any]) -> None:
    given = load(NamedDatasetSpec.model_validate({"name": "digits"} | changes), CPU)

    assert given.describe() == given.save(tmp_path)


def test_a_warning_is_one_line_whatever_a_class_is_called() -> None:
    (warning,) = check(table(4), labels(0, 1, samples=4), table(2), labels(0, 1, samples=2), ["a", "b", "\x1b[2J\n"])

    assert isinstance(warning, DataWarning)
    assert warning.text.isprintable()


def test_a_class_of_a_long_name_is_named_in_short() -> None:
    names = ["a", "b", "n" * 5_000]

    (warning,) = check(table(4), labels(0, 1, samples=4), table(2), labels(0, 1, samples=2), names)

    assert f"({'n' * 39}…)" in warning.text


def test_every_kind_has_a_row_in_the_page_about_data_of_ones_own() -> None:
    page = (Path(__file__).parents[4] / "docs" / "how-to" / "own-data.md").read_text()

    assert [kind for kind in WARNING_KINDS if f"| `{kind}` |" not in page] == []
