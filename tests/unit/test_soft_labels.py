"""The soft-label format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shared.errors import ArtifactDamaged, InvalidInput
from shared.soft_labels import LOGITS, SoftLabels, SoftLabelsHeader, SoftLabelsWriter


def header(samples: int = 10, classes: int = 3, **changes: object) -> SoftLabelsHeader:
    values = {
        "dtype": "float32",
        "views": 1,
        "samples": samples,
        "class_names": tuple(map(str, range(classes))),
        "dataset_key": "d" * 64,
        "teacher_key": "e" * 64,
        "block_rows": 4,
    }
    return SoftLabelsHeader.model_validate(values | changes)


def logits(samples: int = 10, classes: int = 3) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).normal(size=(samples, classes)).astype(np.float32)


def written(folder: Path, rows: npt.NDArray[np.float32], **changes: object) -> SoftLabels:
    writer = SoftLabelsWriter(folder, header(*rows.shape, **changes))
    writer.write(0, rows)
    writer.seal()
    return SoftLabels.open(folder)


@hypothesis_settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 40), classes=st.integers(2, 12), cut=st.integers(0, 40), half=st.booleans())
def test_row_i_is_read_back_as_row_i_however_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, samples: int, classes: int, cut: int, half: bool
) -> None:
    folder, rows = tmp_path_factory.mktemp("labels"), logits(samples, classes)
    cut = min(cut, samples)
    dtype = "float16" if half else "float32"
    writer = SoftLabelsWriter(folder, header(samples, classes, dtype=dtype))

    writer.write(cut, rows[cut:])
    writer.write(0, rows[:cut])
    writer.seal()

    labels = SoftLabels.open(folder)
    order = np.random.default_rng(1).permutation(samples)
    labels.verify()
    np.testing.assert_array_equal(labels.batch(order), rows.astype(dtype)[order].astype(np.float32))


def test_numpy_alone_reads_the_file(tmp_path: Path) -> None:
    rows = logits()
    written(tmp_path, rows)

    np.testing.assert_array_equal(np.fromfile(tmp_path / LOGITS, "<f4").reshape(1, 10, 3)[0], rows)


def test_a_row_that_was_never_written_stops_the_seal(tmp_path: Path) -> None:
    writer = SoftLabelsWriter(tmp_path, header())
    writer.write(0, logits()[:9])

    with pytest.raises(InvalidInput, match="sample 9 of view 0 was never written"):
        writer.seal()


def test_a_row_is_written_once_only(tmp_path: Path) -> None:
    writer = SoftLabelsWriter(tmp_path, header())
    writer.write(0, logits()[:5])

    with pytest.raises(InvalidInput, match="written before"):
        writer.write(4, logits()[4:])


@pytest.mark.parametrize("value", [70_000.0, np.inf, np.nan])
def test_a_logit_that_does_not_fit_is_refused(tmp_path: Path, value: float) -> None:
    writer = SoftLabelsWriter(tmp_path, header(dtype="float16"))
    rows = logits()
    rows[3, 1] = value

    with pytest.raises(InvalidInput, match="not finite or too large for float16"):
        writer.write(0, rows)


@pytest.mark.parametrize("byte", [0, 60, 119])
def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path, byte: int) -> None:
    written(tmp_path, logits())
    content = bytearray((tmp_path / LOGITS).read_bytes())
    content[byte] ^= 1
    (tmp_path / LOGITS).write_bytes(content)

    with pytest.raises(ArtifactDamaged, match="checksum"):
        SoftLabels.open(tmp_path).verify()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path, logits())
    (tmp_path / LOGITS).write_bytes((tmp_path / LOGITS).read_bytes()[:-1])

    with pytest.raises(ArtifactDamaged):
        SoftLabels.open(tmp_path)


def test_labels_of_other_data_or_classes_are_refused(tmp_path: Path) -> None:
    labels = written(tmp_path, logits())

    labels.require(dataset_key="d" * 64, class_names=("0", "1", "2"))
    with pytest.raises(InvalidInput, match="made for data set dddddddd, not for ffffffff"):
        labels.require(dataset_key="f" * 64, class_names=("0", "1", "2"))
    with pytest.raises(InvalidInput, match="classes"):
        labels.require(dataset_key="d" * 64, class_names=("0", "2", "1"))
