"""Soft labels as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.worker.data.teacher_logits import SoftLabelDataset, TeacherLogits
from tests.unit.shared.soft_labels.test_soft_labels import ENCODINGS, IDS, logits, written

CPU = torch.device("cpu")
WIDE = Encoding(dtype="float16", top_k=3)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("encoding", [*ENCODINGS, WIDE], ids=[*IDS, "of 40,000 classes"])
def test_tensors_are_decoded_as_arrays_are(tmp_path: Path, encoding: Encoding, streamed: bool) -> None:
    classes = 40_000 if encoding is WIDE else 5
    values = 3 * logits(2, 30, classes)
    labels = written(tmp_path, values, encoding=encoding)
    rows = torch.tensor([29, 0, 7, 7])

    teacher = TeacherLogits.of(labels, CPU, streamed=streamed)
    decoded = teacher.logits(teacher.take(rows, 1, CPU))

    assert teacher.streamed is streamed
    expected = labels.batch(rows.numpy(), 1)
    np.testing.assert_allclose(decoded.float().numpy(), expected, rtol=1e-5, atol=1e-5)
    if encoding.top_k is None and encoding.dtype != "uint8":
        np.testing.assert_array_equal(decoded.float().numpy(), expected)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
def test_a_view_may_be_a_tensor(tmp_path: Path, encoding: Encoding) -> None:
    teacher = TeacherLogits.of(written(tmp_path, logits(3, 30, 5), encoding=encoding), CPU)
    rows = torch.tensor([29, 0, 7, 7])

    for view in range(3):
        by_number, by_tensor = (teacher.take(rows, each, CPU) for each in (view, torch.tensor(view)))

        assert all(torch.equal(one, other) for one, other in zip(by_number, by_tensor, strict=True))


def test_nothing_is_read_back_from_the_device() -> None:
    # A meta tensor has no values: code that asks for one fails here, and would wait on a real device.
    columns = (torch.zeros(2, 30, 5, device="meta"),)
    teacher = TeacherLogits(Encoding(dtype="float32"), 5, columns)

    taken = teacher.take(torch.arange(4, device="meta"), torch.ones((), dtype=torch.int64, device="meta"), CPU)

    assert teacher.logits(taken).shape == (4, 5)


def test_a_class_beyond_32767_is_not_taken_for_a_negative_one(tmp_path: Path) -> None:
    values = np.zeros((1, 4, 65_000), dtype=np.float32)
    values[0, :, 64_999] = 10.0

    teacher = TeacherLogits.of(written(tmp_path, values, encoding=WIDE), CPU)

    assert teacher.logits(teacher.take(torch.arange(4), 0, CPU)).argmax(1).tolist() == [64_999] * 4


def test_a_dataset_gives_the_row_of_its_sample_however_it_is_shuffled(tmp_path: Path) -> None:
    values = logits(2, 50, 4)
    dataset = SoftLabelDataset(written(tmp_path, values), samples=torch.arange(50), view=1)

    batches = list(DataLoader(dataset, batch_size=16, shuffle=True))

    samples = torch.cat([sample for sample, _ in batches])
    assert sorted(samples.tolist()) == list(range(50))
    np.testing.assert_array_equal(torch.cat([rows for _, rows in batches]).numpy(), values[1, samples])
    np.testing.assert_array_equal(dataset[-1][1], values[1, -1])
    with pytest.raises(IndexError):
        dataset[50]


def test_a_dataset_of_labels_alone_gives_the_view_that_is_set(tmp_path: Path) -> None:
    values = logits(2, 10, 4)
    dataset = SoftLabelDataset(written(tmp_path, values))

    dataset.view = 1

    (rows,) = DataLoader(dataset, batch_size=10)
    np.testing.assert_array_equal(rows.numpy(), values[1])


def test_a_dataset_refuses_another_number_of_samples(tmp_path: Path) -> None:
    labels = written(tmp_path, logits())

    with pytest.raises(ValueError, match="9 samples, and soft labels of 10"):
        SoftLabelDataset(labels, samples=range(9))
