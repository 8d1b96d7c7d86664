"""The soft-label cache: reader and writer."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.errors import ArtifactDamaged, InvalidInput, StoreUnavailable
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels, SoftLabelsHeader, block_rows
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.statistics import LabelStatistics
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from tests.properties import examples

Logits = npt.NDArray[np.float32]

ENCODINGS = [Encoding(dtype=dtype, top_k=top_k) for dtype in ("float32", "float16", "uint8") for top_k in (None, 2)]
IDS = [encoding.name for encoding in ENCODINGS]


def header(views: int = 1, samples: int = 10, classes: int = 3, **changes: Any) -> SoftLabelsHeader:
    values = {
        "views": views,
        "samples": samples,
        "class_names": tuple(map(str, range(classes))),
        "encoding": Encoding(dtype="float32"),
        "dataset_key": "d" * 64,
        "teacher_key": "e" * 64,
        "block_rows": 4,
    }
    return SoftLabelsHeader.model_validate(values | changes)


def logits(views: int = 1, samples: int = 10, classes: int = 3) -> Logits:
    return np.random.default_rng(0).normal(size=(views, samples, classes)).astype(np.float32)


def fill(writer: SoftLabelsWriter, values: Logits, blocks: list[int] | None = None) -> None:
    for block in writer.missing if blocks is None else blocks:
        view, rows = writer.header.rows_of(block)
        writer.write(block, values[view, rows])


def written(folder: Path, values: Logits, **changes: Any) -> SoftLabels:
    writer = SoftLabelsWriter.begin(folder, header(*values.shape, **changes))
    fill(writer, values)
    return writer.seal()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@examples(25)
@given(data=st.data(), views=st.integers(1, 3), samples=st.integers(1, 40), classes=st.integers(3, 12))
def test_row_i_of_view_v_is_read_back_as_that_in_whatever_order_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    encoding: Encoding,
    data: st.DataObject,
    views: int,
    samples: int,
    classes: int,
) -> None:
    values = logits(views, samples, classes)
    writer = SoftLabelsWriter.begin(
        tmp_path_factory.mktemp("labels"), header(views, samples, classes, encoding=encoding)
    )

    fill(writer, values, data.draw(st.permutations(writer.missing)))
    labels = writer.seal()

    labels.verify()
    order = np.random.default_rng(1).permutation(samples)
    for view in range(views):
        one_by_one = encoding.decode(encoding.encode(values[view]), classes)
        np.testing.assert_array_equal(labels.batch(order, view), one_by_one[order])


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@examples(15)
@given(data=st.data(), samples=st.integers(1, 60))
def test_the_bytes_are_the_same_whatever_the_shards(
    tmp_path_factory: pytest.TempPathFactory, encoding: Encoding, data: st.DataObject, samples: int
) -> None:
    """Several writers, each with some of the blocks, some of them twice; against one."""
    values, folder = logits(2, samples), tmp_path_factory.mktemp("labels")
    alone = written(folder / "alone", values, encoding=encoding)
    of_all = SoftLabelsWriter.begin(folder / "shards", header(2, samples, encoding=encoding))
    writers = [SoftLabelsWriter.join(folder / "shards", of_all.header) for _ in range(3)]
    mine = [data.draw(st.lists(st.sampled_from(of_all.missing), max_size=10)) for _ in writers]

    for writer, blocks in zip(writers, mine, strict=True):
        assert writer is not None
        fill(writer, values, blocks)
    fill(of_all, values)
    together = of_all.seal()

    for path in alone.folder.iterdir():
        assert path.read_bytes() == (together.folder / path.name).read_bytes()


def test_after_a_kill_only_the_unfinished_blocks_are_missing(tmp_path: Path) -> None:
    values = logits(2)
    first = SoftLabelsWriter.begin(tmp_path, header(2), "a device")
    fill(first, values, [0, 1, 4])
    torn = first.folder / "labels" / "logits.bin"
    with torn.open("r+b") as file:  # A block that the disk has lost after it was named.
        file.seek(4 * 3 * 4)
        file.write(b"\1")

    again = SoftLabelsWriter.begin(tmp_path, header(2), "a device")

    assert again.missing == [1, 2, 3, 5]
    fill(again, values)
    np.testing.assert_array_equal(again.seal().batch(np.arange(10), 1), values[1])


@pytest.mark.parametrize("other", [{"teacher_key": "f" * 64}, {"encoding": Encoding(dtype="float16")}, {"samples": 11}])
def test_unfinished_labels_of_something_else_are_not_gone_on_with(tmp_path: Path, other: dict[str, Any]) -> None:
    fill(SoftLabelsWriter.begin(tmp_path, header()), logits())

    assert len(SoftLabelsWriter.begin(tmp_path, header(**other)).missing) == 3


@pytest.mark.parametrize("left", [None, 0, 119])
def test_a_draft_whose_columns_are_gone_or_short_is_begun_anew(tmp_path: Path, left: int | None) -> None:
    """Its labels were committed, and then their artifact was found damaged."""
    first = SoftLabelsWriter.begin(tmp_path, header())
    fill(first, logits())
    path = first.folder / "labels" / "logits.bin"
    if left is None:
        path.unlink()
    else:
        os.truncate(path, left)

    again = SoftLabelsWriter.begin(tmp_path, header())

    assert again.missing == [0, 1, 2]
    fill(again, logits())
    again.seal().verify()


def test_unfinished_labels_are_not_mixed_with_those_of_another_device(tmp_path: Path) -> None:
    stale = SoftLabelsWriter.begin(tmp_path, header(), "cpu")
    fill(stale, logits(), [0])

    assert SoftLabelsWriter.join(tmp_path, header(), "cuda") is None
    assert SoftLabelsWriter.join(tmp_path / "nowhere", header(), "cpu") is None
    anew = SoftLabelsWriter.begin(tmp_path, header(), "cuda")
    assert anew.missing == [0, 1, 2]
    with pytest.raises(StoreUnavailable):  # A writer of the old labels cannot write into the new ones.
        fill(stale, logits() + 1, [1])
    assert anew.missing == [0, 1, 2]


def test_what_is_no_name_of_a_block_is_passed_over(tmp_path: Path) -> None:
    writer = SoftLabelsWriter.begin(tmp_path, header())
    for name in (".nfs000001", "9-" + "0" * 32, "0-short", "x"):
        (writer.folder / "finished" / name).touch()

    assert SoftLabelsWriter.begin(tmp_path, header()).missing == [0, 1, 2]
    shutil.rmtree(writer.folder / "finished")
    assert SoftLabelsWriter.begin(tmp_path, header()).missing == [0, 1, 2]


def test_labels_with_a_block_that_was_never_written_cannot_be_sealed(tmp_path: Path) -> None:
    writer = SoftLabelsWriter.begin(tmp_path, header(2))
    fill(writer, logits(2), [0, 1, 2, 3, 5])

    with pytest.raises(InvalidInput, match="1 of 6 blocks were never written, the first from sample 4 of view 1 on"):
        writer.seal()
    with pytest.raises(ArtifactDamaged):
        SoftLabels.open(writer.folder / "labels")


def test_a_block_that_changed_before_the_seal_is_written_again(tmp_path: Path) -> None:
    writer = SoftLabelsWriter.begin(tmp_path, header())
    fill(writer, logits())
    flip(writer.folder / "labels" / "logits.bin", 70)

    with pytest.raises(StoreUnavailable, match="not as they were written"):
        writer.seal()
    assert writer.missing == [1]


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)

    with pytest.raises(StoreUnavailable, match="No space left on device"):
        SoftLabelsWriter.begin(tmp_path, header())
    monkeypatch.undo()
    assert not list(tmp_path.iterdir()), "what was taken of the disk is given back"
    assert SoftLabelsWriter.begin(tmp_path, header()).missing == [0, 1, 2]


def test_short_writes_are_gone_on_with_and_failed_ones_leave_the_block_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, values, really = SoftLabelsWriter.begin(tmp_path, header()), logits(), os.pwrite

    def three_bytes(descriptor: int, data: Any, offset: int) -> int:
        return really(descriptor, bytes(data[:3]), offset)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", three_bytes)
    fill(writer, values, [0, 1])
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StoreUnavailable, match="No space left on device"):
        fill(writer, values, [2])
    monkeypatch.undo()

    assert writer.missing == [2]
    fill(writer, values)
    np.testing.assert_array_equal(writer.seal()[:], values[0])


def test_nobody_writes_into_labels_that_were_sealed_and_moved_away(tmp_path: Path) -> None:
    writer = SoftLabelsWriter.begin(tmp_path / "partial", header())
    late = SoftLabelsWriter.join(tmp_path / "partial", header())
    fill(writer, logits())
    writer.seal().folder.rename(tmp_path / "artifact")

    assert late is not None
    with pytest.raises(StoreUnavailable):
        late.write(0, np.ones((4, 3), dtype=np.float32))
    SoftLabels.open(tmp_path / "artifact").verify()


def flip(path: Path, byte: int) -> None:
    content = bytearray(path.read_bytes())
    content[byte] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=IDS)
@given(data=st.data())
@examples(15)
def test_a_flipped_bit_is_found(
    tmp_path_factory: pytest.TempPathFactory, encoding: Encoding, data: st.DataObject
) -> None:
    labels = written(tmp_path_factory.mktemp("labels"), logits(2), encoding=encoding)
    path = data.draw(st.sampled_from(sorted(labels.folder.iterdir())))

    flip(path, data.draw(st.integers(0, path.stat().st_size - 1)))

    with pytest.raises(ArtifactDamaged):
        SoftLabels.open(labels.folder).verify()


def test_swapped_blocks_are_found_and_named(tmp_path: Path) -> None:
    folder = written(tmp_path, logits()).folder
    path = folder / "logits.bin"
    content, block = path.read_bytes(), 4 * 3 * 4
    path.write_bytes(content[block : 2 * block] + content[:block] + content[2 * block :])

    with pytest.raises(ArtifactDamaged, match="samples 0 to 3 of view 0 differ from their checksum"):
        SoftLabels.open(folder).verify()


@pytest.mark.parametrize("size_bytes", [0, 119, 121])
def test_a_file_of_another_length_is_never_trusted(tmp_path: Path, size_bytes: int) -> None:
    folder = written(tmp_path, logits()).folder
    path = folder / "logits.bin"
    with path.open("r+b") as file:
        file.truncate(size_bytes)

    with pytest.raises(ArtifactDamaged, match=f"logits.bin has {size_bytes} bytes instead of 120"):
        SoftLabels.open(folder)


@pytest.mark.parametrize(
    "rubbish", [b"", b"{}", b"[]", b"\xff\xfe", b'{"format": "distill-soft-labels", "version": 3}', b"nul\0l"]
)
def test_a_header_that_is_none_is_refused(tmp_path: Path, rubbish: bytes) -> None:
    folder = written(tmp_path, logits()).folder
    (folder / HEADER).write_bytes(rubbish)

    with pytest.raises(ArtifactDamaged, match="no soft labels of this version"):
        SoftLabels.open(folder)


def test_a_header_with_another_key_is_found(tmp_path: Path) -> None:
    folder = written(tmp_path, logits()).folder
    facts = json.loads((folder / HEADER).read_text())
    (folder / HEADER).write_text(json.dumps(facts | {"dataset_key": "a" * 64}))

    with pytest.raises(ArtifactDamaged, match="was altered"):
        SoftLabels.open(folder)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dataset_key": "a" * 64}, "made for data set dddddddd, not for aaaaaaaa"),
        ({"teacher_key": "a" * 64}, "made for teacher eeeeeeee, not for aaaaaaaa"),
        ({"class_names": ("0", "1")}, "made for 3 classes, not for 2"),
        ({"class_names": ("0", "2", "1")}, "its class 1 is '1', not '2'"),
        ({"augmentation": {"shift": 2}}, "made with augmentation {'shift': 1}, not with {'shift': 2}"),
        ({"augmentation": {}}, "made with augmentation {'shift': 1}, not with none"),
        ({"augmentation_fingerprint": "b" * 32}, "with other random numbers than this version's"),
    ],
)
def test_labels_of_something_else_are_refused_and_the_message_says_of_what(
    tmp_path: Path, asked: dict[str, Any], message: str
) -> None:
    labels = written(tmp_path, logits(), augmentation={"shift": 1}, augmentation_fingerprint="a" * 32)

    labels.require(dataset_key="d" * 64, class_names=("0", "1", "2"), teacher_key="e" * 64, augmentation={"shift": 1})
    with pytest.raises(InvalidInput, match=message):
        labels.require(**asked)


def test_a_reader_addresses_samples_and_nothing_else(tmp_path: Path) -> None:
    values = logits(2)
    labels = written(tmp_path, values)

    np.testing.assert_array_equal(labels[3], values[0, 3])
    np.testing.assert_array_equal(labels[-1], values[0, -1])
    np.testing.assert_array_equal(labels[2:5], values[0, 2:5])
    np.testing.assert_array_equal(labels[np.array([7, 7, 0])], values[0, [7, 7, 0]])
    probabilities = labels.batch(np.array([4]), view=1, temperature=2.0)
    expected = np.exp(values[1, 4] / 2) / np.exp(values[1, 4] / 2).sum()
    np.testing.assert_allclose(probabilities, expected[None], rtol=1e-5)
    assert labels[[]].shape == (0, 3)
    labels[0:2][:] = 0.0  # A copy, as all that is read.
    np.testing.assert_array_equal(labels[[0, -1]], values[0, [0, -1]])
    for wrong in (10, np.array([10]), np.array([True, False]), np.array([1.0])):
        with pytest.raises(IndexError):
            labels[wrong]
    with pytest.raises(IndexError, match="view 2 of 2"):
        labels.batch(np.array([0]), view=2)
    with pytest.raises(InvalidInput, match="all classes are kept"):
        labels.outside_mass(np.array([0]))


def test_a_reader_is_sent_to_other_processes_as_its_place(tmp_path: Path) -> None:
    values = logits(1, 1_000, 100)
    labels = written(tmp_path, values, block_rows=512)

    sent = pickle.dumps(labels)

    assert len(sent) < 1_000
    np.testing.assert_array_equal(pickle.loads(sent)[:], values[0])


def test_threads_write_side_by_side(tmp_path: Path) -> None:
    values = logits(1, 400, 8)
    writer = SoftLabelsWriter.begin(tmp_path, header(1, 400, 8))
    blocks = writer.missing
    threads = [threading.Thread(target=fill, args=(writer, values, blocks[start::4])) for start in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    np.testing.assert_array_equal(writer.seal()[:], values[0])


@pytest.mark.parametrize(
    ("classes", "rows"), [(2, 1024), (10, 1024), (1_000, 1024), (4_097, 512), (21_841, 128), (10**7, 1)]
)
def test_a_block_takes_little_memory_whatever_the_classes(classes: int, rows: int) -> None:
    assert block_rows(classes) == rows
    assert rows == 1 or rows * classes * 4 <= 16 * 2**20


def test_statistics_are_of_all_views_and_of_labelled_samples(tmp_path: Path) -> None:
    values = np.log(np.array([[[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]], [[0.3, 0.7], [0.6, 0.4], [0.5, 0.5]]], np.float32))
    labels = written(tmp_path, values)

    statistics = LabelStatistics.of(labels, np.array([0, 1, -1]))

    assert statistics.accuracy == 0.25
    assert statistics.confidence == pytest.approx((0.8 + 0.6 + 0.7 + 0.6) / 4)
    # 0.8 right; 0.7 wrong, and 0.6 wrong twice, each in a bin of its own.
    assert statistics.calibration_error == pytest.approx((0.2 + 0.7 + 2 * 0.6) / 4)
    probabilities = np.exp(values)
    assert statistics.entropy == pytest.approx(-(probabilities * values).sum(axis=2).mean(), rel=1e-5)
