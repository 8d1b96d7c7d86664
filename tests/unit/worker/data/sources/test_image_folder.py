"""A folder of images as a data set: its splits and classes, its bad files, and its warnings."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from distill_queue.shared.errors import Cancelled, InvalidSpec, StageFailed, Unavailable
from distill_queue.shared.spec.dataset import dataset_reader
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.images.layout import Layout
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

GREY = dict(zip("abcdefgh", range(20, 255, 30), strict=True))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (folder := tmp_path / "data" / "photos").mkdir(parents=True)
    return folder


def put(folder: Path, *names: str, size: tuple[int, int] = (6, 6)) -> None:
    """Write images whose shade of grey tells their class's first letter, and whose green their number."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        number = int("".join(filter(str.isdigit, path.stem)) or 0)
        shade = GREY.get(path.parent.name[:1], 0)
        Image.new("RGB", size, (shade, number, shade)).save(path)


def many(folder: str, count: int, first: int = 0) -> list[str]:
    return [f"{folder}/{number}.png" for number in range(first, first + count)]


def read(photos: Path, **options: Any) -> Arrays:
    runtime = Runtime(torch.device("cpu"), data=(photos.parent,), digests=photos.parent.parent / "digests")
    (scratch := photos.parent.parent / "scratch").mkdir(exist_ok=True)
    spec = dataset_reader().validate_python({"name": "image_folder", "path": "photos", "size": 4} | options)
    return load(spec, Reading(runtime, scratch))


def kinds(arrays: Arrays) -> dict[str, str]:
    return {warning.kind: warning.text for warning in arrays.warnings}


def test_folders_of_splits_and_classes_become_training_held_out_unlabelled_and_test_samples(photos: Path) -> None:
    put(photos, *many("train/b", 3), *many("train/a", 2), *many("validation/a", 1, 7), *many("test/b", 1, 8))
    put(photos, *many("test/a", 1, 9), *many("unlabelled", 1, 50), *many("unlabelled/deep/er", 1, 51))

    arrays = read(photos)

    assert arrays.class_names == ("a", "b")
    assert arrays.train_inputs.shape == (8, 3, 4, 4)
    assert arrays.train_targets.tolist() == [0, 0, 1, 1, 1, 0, -1, -1]
    assert arrays.train_inputs[:, 0, 0, 0].tolist() == [20, 20, 50, 50, 50, 20, 0, 80 + 60]
    assert arrays.train_inputs[:, 1, 0, 0].tolist() == [0, 1, 0, 1, 2, 7, 50, 51]
    assert arrays.held_out is not None
    assert arrays.held_out.tolist() == [5]
    assert arrays.test_targets.tolist() == [0, 1]
    assert arrays.test_inputs[:, 1, 0, 0].tolist() == [9, 8]
    assert arrays.content is not None


def test_without_a_test_set_a_fixed_fifth_of_each_class_is_kept_for_testing(photos: Path) -> None:
    put(photos, *many("cat", 10), *many("dog", 20))

    arrays = read(photos)

    assert np.bincount(arrays.train_targets).tolist() == [8, 16]
    assert np.bincount(arrays.test_targets).tolist() == [2, 4]
    assert arrays.test_inputs.tobytes() == read(photos).test_inputs.tobytes()


def test_images_of_a_class_may_lie_in_folders_below_and_names_of_splits_in_other_words(photos: Path) -> None:
    put(photos, *many("Train/a/x/y", 2), *many("Train/b", 2), *many("val/a", 1), *many("Test/b", 1))

    arrays = read(photos)

    assert arrays.train_targets.tolist() == [0, 0, 1, 1, 0]
    assert (arrays.held_out is not None, len(arrays.test_targets)) == (True, 1)


def test_samples_are_the_same_with_any_number_of_threads(photos: Path) -> None:
    for name in "abc":
        put(photos, *many(name, 60), size=(9, 9))
    threads = torch.get_num_threads()
    found = []
    try:
        for count in (1, 5):
            torch.set_num_threads(count)
            found.append(read(photos, size=[500, 300]))
            assert found[-1].train_inputs[:, 1, 0, 0].tolist() == [row % 60 for row in _kept(found[-1])]
    finally:
        torch.set_num_threads(threads)
    assert found[0].train_inputs.tobytes() == found[1].train_inputs.tobytes()


def _kept(arrays: Arrays) -> list[int]:
    """Rows of the training samples by their class and green, in the order of their files' names."""
    green, grey = arrays.train_inputs[:, 1, 0, 0].tolist(), arrays.train_targets.tolist()
    pairs = sorted(zip(grey, map(str, green), strict=True), key=lambda pair: (pair[0], f"{pair[1]}.png"))
    assert [(grey[row], str(green[row])) for row in range(len(grey))] == pairs
    return [60 * label + number for label, number in zip(grey, green, strict=True)]


def test_labels_may_be_few_and_held_out_samples_keep_theirs(photos: Path) -> None:
    put(photos, *many("train/a", 5), *many("train/b", 5), *many("validation/a", 2), *many("test/a", 1))

    arrays = read(photos, labelled=4)

    assert sorted(arrays.train_targets.tolist()) == [-1] * 6 + [0] * 4 + [1] * 2
    assert arrays.train_targets[-2:].tolist() == [0, 0]


def test_all_bad_files_are_named_in_one_error(photos: Path) -> None:
    put(photos, *many("train/a", 5), *many("train/b", 5), *many("test/a", 3))
    whole = (photos / "train/a/0.png").read_bytes()
    (photos / "train/a/cut.png").write_bytes(whole[:50])
    (photos / "train/b/empty.jpg").touch()
    for number in range(30):
        (photos / f"test/a/text{number:02}.gif").write_text("no image")

    with pytest.raises(InvalidSpec) as refused:
        read(photos)

    text = str(refused.value)
    assert text.startswith("photos: 32 of 45 files cannot be read as images")
    assert "train/a/cut.png is damaged" in text
    assert "train/b/empty.jpg is empty" in text
    assert "test/a/text17.gif is no image that can be read and 12 more" in text


def test_bad_files_are_left_out_and_told_if_the_spec_says_so_and_they_are_few(photos: Path) -> None:
    put(photos, *many("a", 20), *many("b", 20))
    (photos / "a/cut.jpg").write_bytes(b"\xff\xd8\xff")

    arrays = read(photos, on_bad="skip", most_bad=0.05)

    assert len(arrays.train_targets) + len(arrays.test_targets) == 40
    assert kinds(arrays)["bad_files"].startswith(
        "1 of 41 files cannot be read as images and are left out: a/cut.jpg is"
    )
    with pytest.raises(
        InvalidSpec, match=r"1 of 41 files cannot .* more than most_bad: 0.01 allows to skip: a/cut.jpg"
    ):
        read(photos, on_bad="skip")


def test_an_image_with_the_ending_of_another_format_is_no_bad_file(photos: Path) -> None:
    put(photos, *many("a", 5), *many("b", 5))
    (photos / "a/0.png").rename(photos / "a/0.JPG")

    assert len(read(photos).train_targets) == 8


def test_what_is_no_image_and_what_has_none_is_told_once(photos: Path) -> None:
    put(photos, *many("train/a", 5), *many("train/b", 5), *many("test/a", 2), *many("extra", 3))
    (photos / "train/empty").mkdir()
    (photos / "notes.txt").touch()
    (photos / "train/a/Thumbs.db").touch()
    (photos / "train/a/.hidden.png").touch()

    texts = [warning.text for warning in read(photos).warnings if warning.kind != "test_samples_in_training"]

    assert texts[:3] == [
        "1 folder is without an image, taken for no class: train/empty",
        "2 files are not read, as the name is no image's: 1 .txt, 1 .db",
        "3 images are not read, beside the splits' folders: 3 extra",
    ]


def test_classes_of_one_split_only_and_images_in_both_splits_are_told(photos: Path) -> None:
    put(photos, *many("train/a", 60), *many("train/b", 60), *many("validation/d", 5), *many("test/a", 60))
    put(photos, *many("test/c", 5))

    found = kinds(read(photos))

    assert found["unused_classes"].startswith("2 of 4 classes (c, d) have no training sample")
    assert found["untested_classes"].startswith("1 of 4 classes (b) has training samples and no test sample")
    assert found["test_samples_in_training"].startswith("60 of 65 test samples (92.3%) are among the training samples")


def test_a_class_whose_name_no_terminal_may_show_is_named_by_its_escapes(photos: Path) -> None:
    strange = os.fsdecode(b"a\xff\x1b[31m")
    put(photos, *many(strange, 5), *many("b", 5))

    assert read(photos).class_names == ("a\\udcff", "b")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"none of its files can be used"),
        (["a.png"], r"1 images lie in no class's folder: a.png"),
        (["train/a.png", "train/b/1.png"], r"lie in no class's folder: train/a.png"),
        (["train/a/1.png", "train/a/2.png"], r"a single class, a: two or more"),
        (["test/a/1.png", "a/1.png"], r"has the folder test and no folder train beside it"),
        (["unlabelled/1.png"], r"no images of classes, as train/cats/1.jpg"),
        (["train/a/1.png", "train/b/1.png"], r"no class has the three images of which one can be kept"),
        (["val/a/1.png", "validation/a/1.png", "train/a/1.png"], r"val and validation are two folders of one split"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_with_one_message(photos: Path, names: list[str], message: str) -> None:
    put(photos, *names)

    with pytest.raises(InvalidSpec, match=message):
        read(photos)


def test_held_out_samples_come_from_a_folder_or_from_a_share_and_not_from_both(photos: Path) -> None:
    put(photos, *many("train/a", 9), *many("train/b", 9), *many("validation/a", 1))

    with pytest.raises(InvalidSpec, match=r"^dataset\.validation: photos holds out samples of its own already"):
        read(photos, validation=0.2)

    held_out = read(photos, validation=0.2, own_validation="take").held_out
    assert held_out is not None
    assert held_out.tolist() == [14]


def test_a_folder_that_changed_since_it_was_submitted_is_refused(photos: Path) -> None:
    put(photos, *many("a", 5), *many("b", 5))
    content = read(photos).content
    put(photos, *many("a", 1, 5))

    with pytest.raises(StageFailed, match="photos is not what was submitted"):
        read(photos, content=content)


def test_how_many_files_are_found_is_reported_and_the_report_may_end_that(photos: Path) -> None:
    put(photos, *many("a", 5), *many("b", 5))

    def report(progress: str, *_: object) -> None:
        if "7 files found" in progress:
            raise Cancelled(progress)

    with pytest.raises(Cancelled, match="looking for images, 7 files found"):
        Layout.of(photos, "photos", report)


def test_a_disk_that_gives_a_file_another_time_is_no_bad_file(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(photos, *many("a", 5), *many("b", 5))
    read(photos)  # From now on the hashes of the files are known, and only their decoding opens them.
    opened = os.open

    def faulty(path: Any, *arguments: Any, **options: Any) -> int:
        if str(path).endswith("a/3.png"):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
        return opened(path, *arguments, **options)

    monkeypatch.setattr(os, "open", faulty)

    with pytest.raises(Unavailable, match=r"a/3.png: Stale file handle"):
        read(photos)
    with pytest.raises(Unavailable, match=r"a/3.png: Stale file handle"):
        read(photos, on_bad="skip", most_bad=0.5)
