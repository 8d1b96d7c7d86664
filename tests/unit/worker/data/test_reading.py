"""What is reported while a worker compares files with what was submitted."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from distill_queue.shared.errors import Cancelled
from distill_queue.shared.spec.sources.image_folder import ImageFolderSpec
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Report, Runtime

#: Bytes of a file that takes a minute to hash; on the disk it takes none.
LONG = 50_000_000_000


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of files."""
    for number in range(40):
        (file := tmp_path / "photos" / "cat" / f"{number}.jpg").parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(100_000))
    return tmp_path / "photos"


def content(photos: Path, report: Report) -> str:
    runtime = Runtime(torch.device("cpu"), data=(photos.parent,), digests=photos.parent / "digests")
    return Reading(runtime, report=report).content(ImageFolderSpec(path="photos", size=(4, 4)))


def test_files_and_the_share_that_is_read_are_reported(photos: Path) -> None:
    reports: list[tuple[str, float | None]] = []

    content(photos, lambda words, _=0, share=None: reports.append((words, share)))

    words = [words for words, _ in reports]
    assert words[:2] == ["comparing the files with what was submitted", "comparing the files: 1 files found"]
    assert words[-1].startswith("comparing the files: ")
    assert words[-1].endswith(" of 40 files, 4 of 4 MB")
    shares = [share for _, share in reports if share is not None]
    assert all(first <= second for first, second in pairwise(shares))
    assert shares[-1] == 1.0


@pytest.mark.parametrize("words", ["7 files found", "of 40 files"])
def test_a_report_that_raises_ends_the_work(photos: Path, words: str) -> None:
    def report(progress: str, _samples: int = 0, _share: float | None = None) -> None:
        if words in progress:
            raise Cancelled(progress)

    with pytest.raises(Cancelled, match=words):
        content(photos, report)


def test_a_long_file_is_not_read_to_its_end_for_that(photos: Path) -> None:
    (photos / "cat" / "long.jpg").touch()
    with (photos / "cat" / "long.jpg").open("r+b") as file:
        file.truncate(LONG)
    reports = 0

    def report(_progress: str, _samples: int = 0, share: float | None = None) -> None:
        nonlocal reports
        reports += bool(share)
        if reports > 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        content(photos, report)
