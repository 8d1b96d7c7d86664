"""What a channel's values are divided by, so that no value of training, of a view or of the test set explodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.batches import Batches
from distill_queue.worker.data.split import PIECE_BYTES, Split

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)


def packed(folder: Path, train: Array, test: Array | None = None) -> DatasetRecord:
    test = train if test is None else test
    names = ("a", "b")
    return Arrays(train, np.arange(len(train)) % 2, test, np.arange(len(test)) % 2, names).save(folder)


def split(folder: Path, name: str, record: DatasetRecord) -> Split:
    return Split.open(folder, name, record, CPU)


def with_alpha(samples: int) -> Array:
    """Opaque images, RGBA: the fourth channel is 255 everywhere."""
    images = RANDOM.integers(0, 256, (samples, 4, 8, 8), dtype=np.uint8)
    images[:, 3] = 255
    return images


def test_a_constant_channel_is_divided_by_its_value_and_named(tmp_path: Path) -> None:
    record = packed(tmp_path, with_alpha(40))

    assert record.std[3] == 255.0
    assert 60 < record.std[0] < 90
    (warning,) = record.warnings
    assert warning.kind == "constant_channels"
    assert warning.text.startswith(
        "channel 3 of 4 is constant (always 255) in the training samples, to a millionth: nothing is learned"
    )


def test_what_views_set_to_0_does_not_explode_in_a_constant_channel(tmp_path: Path) -> None:
    record = packed(tmp_path, with_alpha(40))
    batches = Batches(split(tmp_path, "train", record), AugmentationSpec(shift=2, cutout=3), None, torch.float32)

    inputs = batches(torch.arange(40)[None], 0).inputs

    assert inputs[0, :, 3].unique().tolist() == [-1.0, 0.0]
    assert inputs.abs().max() < 3.0


def test_a_value_that_training_never_saw_does_not_explode(tmp_path: Path) -> None:
    train = RANDOM.normal(size=(100, 3)).astype(np.float32)
    train[:, 1] = 7.0
    test = train.copy()
    test[:, 1] = 8.0
    record = packed(tmp_path, train, test)

    seen = split(tmp_path, "test", record).normalised(slice(None))

    torch.testing.assert_close(seen[:, 1], torch.full((100,), 1 / 7))


def columns(last: float, samples: int = 10_000) -> Arrays:
    """A table of one's own with a column of zeros, but for one training sample, and a test value."""
    train = RANDOM.normal(size=(samples, 2)).astype(np.float32)
    train[:, 1] = 0.0
    train[7, 1] = 0.001
    test = train[:50].copy()
    test[3, 1] = last
    targets = np.arange(samples) % 2
    return Arrays(train, targets, test, targets[:50], ("a", "b"), own=True)


def test_a_value_that_is_far_from_all_others_is_named() -> None:
    (warning,) = columns(1.0).describe().warnings

    assert warning.kind == "far_values"
    assert warning.text.startswith("channel 1 of 2 is up to 100,0")
    assert "deviations from the training samples' mean (a value of 1): nothing beside" in warning.text
    (below,) = columns(-1.0).describe().warnings
    assert below.text.startswith("channel 1 of 2 is up to 100,0")


def test_columns_with_names_are_called_by_them() -> None:
    (warning,) = replace(columns(1.0), input_names=("age", "income")).describe().warnings

    assert warning.text.startswith("column 'income' of 2 is up to 100,0")
    assert warning.text.endswith("nothing beside such a value counts: leave the column out")


def test_rare_values_as_of_sparse_counts_are_not_far() -> None:
    given = columns(0.001)
    given.train_inputs[:, 1] *= 1_000
    given.test_inputs[:, 1] *= 50_000  # Fifty of what was counted once in 10,000 samples.

    assert given.describe().warnings == ()
    assert replace(columns(1.0), own=False).describe().warnings == (), "built-in data are known"


def test_a_channel_that_hardly_varies_is_named_where_views_have_zeros(tmp_path: Path) -> None:
    images = with_alpha(400)
    images[0, 3, 0, 0] = 254
    table = np.stack([np.linspace(0, 1, 100), np.linspace(2_020, 2_021, 100)], axis=1)

    (of_images,) = packed(tmp_path, images).warnings

    assert of_images.kind == "nearly_constant_channels"
    assert of_images.text.startswith("channel 3 of 4 is nearly constant: what shift and cutout set to 0 is 40,80")
    assert not packed(tmp_path, table).warnings, "a table has no views with zeros"


def test_many_constant_channels_are_counted(tmp_path: Path) -> None:
    table = np.zeros((50, 20), dtype=np.float32)
    table[:, 0] = np.arange(50)

    (warning,) = packed(tmp_path, table).warnings

    assert warning.text.startswith("19 of 20 channels (1, 2, 3, 4, 5 and 14 more) are constant in the training samples")


def test_one_sample_is_enough_for_statistics(tmp_path: Path) -> None:
    record = packed(tmp_path, np.full((1, 2), 5.0))

    assert record.std == (5.0, 5.0)
    assert split(tmp_path, "train", record).normalised(slice(None)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1.0, 1e9, 1e30])
def test_a_channel_of_any_scale_comes_to_deviation_1(tmp_path: Path, scale: float) -> None:
    record = packed(tmp_path, RANDOM.normal(size=(500, 2)) * scale)

    seen = split(tmp_path, "train", record).normalised(slice(None))

    torch.testing.assert_close(seen.std(0, correction=0), torch.ones(2))
    torch.testing.assert_close(seen.mean(0), torch.zeros(2), atol=1e-5, rtol=0)


def test_a_large_offset_leaves_no_values_beyond_rounding(tmp_path: Path) -> None:
    times = 1.7e9 + np.linspace(-100, 100, 500)[:, None] * np.ones(2)

    record = packed(tmp_path, times)

    assert record.warnings[0].kind == "constant_channels", "float32 cannot tell them apart"
    assert split(tmp_path, "train", record).normalised(slice(None)).abs().max() < 10


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=20),
    constant=st.floats(-1e6, 1e6, width=32),
)
def test_statistics_are_those_of_scikit_learn(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], constant: float
) -> None:
    table = np.stack([np.asarray(values), np.full(len(values), constant)], axis=1)
    scaler = StandardScaler().fit(table)

    record = packed(tmp_path_factory.mktemp("packed"), table)

    np.testing.assert_allclose(record.mean, scaler.mean_, rtol=1e-5, atol=1e-9)
    assert record.std[1] == pytest.approx(max(1.0, abs(constant)))
    if not any(
        "channel 0 of" in warning.text or "(0" in warning.text for warning in record.warnings
    ):  # Else constant, as far as float32 can tell.
        np.testing.assert_allclose(record.std[0], np.std(values), rtol=1e-5)


def test_pieces_are_put_together(tmp_path: Path) -> None:
    columns = 1_000
    rows = 2 * PIECE_BYTES // (4 * columns) + 7
    table = (RANDOM.integers(0, 256, (rows, columns))).astype(np.uint8)

    record = packed(tmp_path, table, table[:2])

    np.testing.assert_allclose(record.mean, table.mean(0), rtol=1e-5)
    np.testing.assert_allclose(record.std, table.std(0), rtol=1e-5)
