"""The hash of what a file or folder holds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.content import content_of
from distill_queue.shared.files.hashing import Hashed


def all_files(_name: str) -> bool:
    return True


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of files."""
    folder = tmp_path / "photos"
    for name in ("cat/1.jpg", "cat/2.jpg", "dog/1.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


@pytest.fixture
def content(tmp_path: Path) -> Callable[[Path], str]:
    """The content of a path, with a memory of its own."""
    return lambda path: content_of(path, all_files, tmp_path / "cache" / "contents.sqlite")


def test_a_folder_has_the_same_content_wherever_it_lies(photos: Path, content: Callable[[Path], str]) -> None:
    before = content(photos)

    moved = photos.rename(photos.with_name("moved"))

    assert content(moved) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda photos: (photos / "dog" / "2.jpg").write_bytes(b"new"),
        lambda photos: (photos / "cat" / "1.jpg").write_bytes(b"CAT/1.jpg"),
        lambda photos: (photos / "cat" / "1.jpg").unlink(),
        lambda photos: (photos / "cat" / "1.jpg").rename(photos / "dog" / "3.jpg"),
    ],
    ids=["added", "changed", "removed", "moved"],
)
def test_a_change_is_seen_though_hashes_are_remembered(
    photos: Path, content: Callable[[Path], str], change: Callable[[Path], object]
) -> None:
    before = content(photos)

    change(photos)

    assert content(photos) != before


def test_what_is_known_is_not_read_again(
    photos: Path, content: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_queue.shared.files.hashing.SETTLED_NS", -(2**62))  # Files are new, in a test.
    before = content(photos)

    monkeypatch.setattr("distill_queue.shared.files.hashing.opened", None)

    assert content(photos) == before


def test_a_file_that_has_just_changed_is_not_remembered(
    photos: Path, content: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content(photos)

    monkeypatch.setattr("distill_queue.shared.files.hashing.opened", None)

    with pytest.raises(TypeError):
        content(photos)


def test_hidden_files_and_those_that_are_not_taken_do_not_count(photos: Path, tmp_path: Path) -> None:
    def jpegs(name: str) -> bool:
        return name.endswith(".jpg")

    before = content_of(photos, jpegs, tmp_path / "memory")

    (photos / "README.txt").write_text("about")
    (photos / ".DS_Store").write_bytes(b"\0")
    (photos / ".cache").mkdir()
    (photos / ".cache" / "1.jpg").write_bytes(b"hidden")

    assert content_of(photos, jpegs, tmp_path / "memory") == before


def test_a_file_is_its_bytes_and_the_end_of_its_name(tmp_path: Path, content: Callable[[Path], str]) -> None:
    one, other, third = (tmp_path / name for name in ("a.npz", "b.npz", "a.csv"))
    for path in (one, other, third):
        path.write_bytes(b"same")

    assert content(one) == content(other) != content(third)


def test_links_may_lead_in_a_circle(photos: Path, content: Callable[[Path], str]) -> None:
    before = content(photos)

    (photos / "cat" / "all").symlink_to(photos)

    assert content(photos) == before


@pytest.mark.parametrize("target", ["other", "other/3.jpg", "nothing"])
def test_a_link_that_leads_out_of_the_folders_of_data_is_refused(photos: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "3.jpg").write_bytes(b"secret")
    (photos / "cat" / "3.jpg").symlink_to(tmp_path / target)
    roots = [photos.resolve()]

    with pytest.raises(InvalidInput, match=rf"cat/3\.jpg is .*{target}, outside of the folders in DISTILL_DATA"):
        content_of(photos, all_files, tmp_path / "memory", roots=roots)
    if target != "nothing":
        assert content_of(photos, all_files, tmp_path / "memory", roots=[*roots, (tmp_path / "other").resolve()])


def test_without_a_place_for_the_memory_all_is_read(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")

    assert content_of(photos, all_files, tmp_path / "file" / "memory") == content_of(
        photos, all_files, tmp_path / "memory"
    )


def test_a_damaged_memory_is_passed_over(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("no database")

    assert content_of(photos, all_files, tmp_path / "memory") == content_of(photos, all_files, tmp_path / "other")


def test_an_empty_folder_is_refused(tmp_path: Path, content: Callable[[Path], str]) -> None:
    with pytest.raises(InvalidInput, match=r"none of its files can be used \(there: nothing; wanted: files\)"):
        content(tmp_path)


def test_of_a_folder_without_such_files_what_lies_there_is_said(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none of its files can be used \(there: 3 .jpg; wanted: arrays\)"):
        content_of(photos, lambda _: False, tmp_path / "memory", wanted="arrays")


def test_what_is_no_file_is_refused(tmp_path: Path, content: Callable[[Path], str]) -> None:
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(InvalidInput, match="pipe: a pipe, not a file"):
        content(tmp_path / "pipe")


def test_what_is_hashed_before_the_work_ends_early_is_remembered(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_queue.shared.files.hashing.SETTLED_NS", -(2**62))  # Files are new, in a test.
    os.mkfifo(photos / "last.jpg")
    with pytest.raises(InvalidInput, match="a pipe"):
        content_of(photos, all_files, tmp_path / "memory")

    monkeypatch.setattr("distill_queue.shared.files.hashing.opened", None)

    assert content_of(photos / "cat", all_files, tmp_path / "memory")


@pytest.mark.parametrize(
    ("hashed", "words", "share"),
    [
        (Hashed(0, 1_203), "1,203 files found", None),
        (Hashed(3, 10, 5_400_000, 54_000_000), "3 of 10 files, 5 of 54 MB", 0.1),
        (Hashed(9, 10, 60_000_000, 54_000_000), "9 of 10 files, 60 of 54 MB", 1.0),
    ],
)
def test_how_far_it_is_is_said_in_words_and_as_a_share(hashed: Hashed, words: str, share: float | None) -> None:
    assert (hashed.words, hashed.share) == (words, share)
