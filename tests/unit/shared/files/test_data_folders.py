"""What a path in a spec names, below the folders of data and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.data_folders import find_in


def test_the_first_folder_that_has_it_counts(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
    for folder in ("b", "c"):
        (tmp_path / folder / "x.npz").touch()

    found = find_in((tmp_path / "a", tmp_path / "b", tmp_path / "c"), "x.npz")

    assert found == (tmp_path / "b" / "x.npz").resolve()
    assert find_in((tmp_path / "a",), "x.npz") is None
    assert find_in((tmp_path / "missing",), "x.npz") is None


def test_an_absolute_path_may_lie_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x.npz").touch()

    assert find_in((tmp_path,), str(tmp_path / "x.npz")) == (tmp_path / "x.npz").resolve()


@pytest.mark.parametrize("path", ["../secret", "link", "/etc/passwd"])
def test_nothing_outside_is_found(tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").touch()
    (folder := tmp_path / "data").mkdir()
    (folder / "link").symlink_to("../secret")

    with pytest.raises(InvalidInput, match="outside of the folders in DISTILL_DATA"):
        find_in((folder,), path)


def test_a_link_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "x.npz").touch()
    (tmp_path / "link").symlink_to("x.npz")

    assert find_in((tmp_path,), "link") == (tmp_path / "x.npz").resolve()
