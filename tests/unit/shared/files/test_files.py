"""Files are read whole, and only up to a limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_queue.shared.files.files import PIECE_BYTES, NoFile, read


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, 2 * PIECE_BYTES + 1])
def test_a_file_is_read_whole_up_to_the_bytes_that_are_allowed(tmp_path: Path, size: int) -> None:
    path, content = tmp_path / "file", bytes(number % 251 for number in range(size))
    path.write_bytes(content)

    assert read(path, size) == content
    assert read(str(path), size + 1) == content
    if size:
        with pytest.raises(NoFile, match="larger than"):
            read(path, size - 1)
    with pytest.raises(NoFile, match="a folder, not a file"):
        read(tmp_path, size)
