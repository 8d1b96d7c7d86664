"""The folder of an exported student: where it may be written, and that it is written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_queue.scheduler.exports.folder import MARK, require_place, write
from distill_queue.shared.errors import InvalidSettings

FILES = {"model.onnx": b"new", "card.md": b"# small\n" + MARK}


def test_a_folder_is_written_and_an_earlier_exports_other_files_go(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    write(FILES | {"model-int8.onnx": b"old"}, folder)

    require_place(folder, force=False)
    write(FILES, folder)

    assert {each.name: each.read_bytes() for each in folder.iterdir()} == FILES
    assert [each.name for each in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("name", ["model.onnx", "photo.png"])
def test_a_folder_with_files_from_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")

    with pytest.raises(InvalidSettings, match="has files that 'distill export' did not write: name another folder"):
        require_place(tmp_path, force=False)


def test_a_users_file_in_an_exported_folder_is_not_overlooked(tmp_path: Path) -> None:
    write(FILES, tmp_path)
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(InvalidSettings, match="did not write"):
        require_place(tmp_path, force=False)


def test_a_forced_export_leaves_the_files_that_it_does_not_write(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model-int8.onnx").write_text("mine, too")

    require_place(tmp_path, force=True)
    write(FILES, tmp_path)

    assert {each.name for each in tmp_path.iterdir()} == {*FILES, "notes.txt", "model-int8.onnx"}


def test_a_folder_that_cannot_be_written_whole_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="small: File name too long"):
        write(FILES | {"x" * 300: b""}, tmp_path / "small")

    assert not list(tmp_path.iterdir())


def test_a_file_and_a_folder_in_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("a file")

    with pytest.raises(InvalidSettings, match="small: is there already, and is no folder"):
        require_place(tmp_path / "small", force=True)
    with pytest.raises(InvalidSettings, match="nowhere: no such folder"):
        require_place(tmp_path / "nowhere" / "small", force=False)
