"""Data folders: where data lie that a spec names by a path, and nothing outside of them."""

from __future__ import annotations

import os
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
        raise InvalidInput(_outside(path, outside))
    return None


def require_inside(roots: Iterable[Path], link: str) -> None:
    """Refuse a link that leads out of some folders, which are without links themselves.

    Raises:
        InvalidInput: it does.

    """
    found = Path(os.path.realpath(link))
    if not any(found.is_relative_to(root) for root in roots):
        raise InvalidInput(_outside(shown(link), found))


def _outside(name: str, found: Path) -> str:
    return f"{name} is {shown(found)}, outside of the folders in DISTILL_DATA"
