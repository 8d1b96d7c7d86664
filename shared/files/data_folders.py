"""Data folders: where data lie that a spec names by a path, and nothing outside of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.given_file import shown


def find_in(folders: Iterable[Path], path: str) -> Path | None:
    """The file or folder that a path names in the first of some folders that has it, with its links resolved.

    Raises:
        InvalidInput: it lies outside of the folder, as a link leads out, or cannot be looked at.

    """
    outside = None
    for folder in folders:
        try:
            root, found = folder.resolve(), (folder / path).resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, RuntimeError, ValueError) as error:  # No right to look, a loop of links.
            raise InvalidInput(f"{shown(folder / path)}: {getattr(error, 'strerror', None) or error}") from error
        if found.is_relative_to(root):
            return found
        outside = found
    if outside is not None:
        raise InvalidInput(f"{path} is {shown(outside)}, outside of the folders in DISTILL_DATA")
    return None
