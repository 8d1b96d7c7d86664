"""What a spec says of data that lie in a file or folder: a path below the folders that a worker allows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from distill_queue.shared.errors import InvalidInput
from distill_queue.shared.files.content import content_of
from distill_queue.shared.files.data_folders import find_in
from distill_queue.shared.files.given_file import shown
from distill_queue.shared.files.hashing import Advance
from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.shared.text import encodable

#: Characters of a path, at the most.
LONGEST_PATH = 1_000


def a_path(text: str) -> str:
    """A path below a folder of data."""
    fault = ""
    if not text.strip() or len(text) > LONGEST_PATH:
        fault = f"a path has 1 to {LONGEST_PATH:,} characters"
    elif not text.isprintable() or encodable(text) != text:
        fault = "has a character that no path in a spec may have"
    elif ".." in PurePosixPath(text).parts:
        fault = "leads upwards by '..': name the folder from DISTILL_DATA down"
    if fault:
        raise PydanticCustomError("path", "{fault}", {"fault": fault})
    return text


DataPath = Annotated[str, AfterValidator(a_path), WithJsonSchema({"type": "string", "maxLength": LONGEST_PATH})]


class SourceOnDisk(DataSource):
    """Data in a file or folder. Their content is part of the key, and where they lie is not."""

    #: What is read of a folder, in words.
    wanted: ClassVar[str] = "files"

    path: DataPath
    """A file or folder, from a folder in `DISTILL_DATA` down; where that is not set, from the spec's own folder."""
    content: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$", exclude_if=lambda content: content is None)] = None
    """SHA-256 of what lies there, which `distill submit` finds out where it sees it; another content is refused."""

    @classmethod
    def takes(cls, name: str) -> bool:  # noqa: ARG003
        """Whether a folder's file of this name is read, so that its content counts."""
        return True

    @property
    def called(self) -> str:
        """The last part of its path."""
        return PurePosixPath(self.path).name or self.path

    @property
    def further_paths(self) -> dict[str, str]:
        """Other paths whose content counts as well, by the names of their fields."""
        return {}

    @property
    def left_out_of_key(self) -> frozenset[str]:
        """The paths, where the content is known."""
        return frozenset() if self.content is None else frozenset({"path", *self.further_paths})

    def holds_out_at(self, place: Path) -> bool:  # noqa: ARG002
        """Whether samples are held out of what lies at a place, as far as the names there tell.

        Raises:
            InvalidInput: it cannot be looked at.

        """
        return self.may_hold_out

    def find_content(self, folders: Iterable[Path], memory: Path, advance: Advance = lambda _: None) -> str | None:
        """The SHA-256 of what lies at all of its paths, in some folders; None where one of them is not there.

        Args:
            folders: in which its paths are looked for.
            memory: as for `content_of`.
            advance: as for `content_of`, of one path after the other.

        Raises:
            InvalidInput: something cannot be read, or lies outside of the folders.

        """
        folders, found = tuple(folders), list[str]()
        roots = [folder.resolve() for folder in folders]
        for path in (self.path, *self.further_paths.values()):
            if (place := find_in(folders, path)) is None:
                return None
            found.append(content_of(place, self.takes, memory, advance, roots=roots, wanted=self.wanted))
        return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def names_in(folder: Path) -> list[str]:
    """The names of what lies in a folder, in any order; none of a file.

    Raises:
        InvalidInput: it cannot be looked at.

    """
    try:
        return [each.name for each in folder.iterdir()] if folder.is_dir() else []
    except OSError as error:
        raise InvalidInput(f"{shown(folder)}: {error.strerror or error}") from error
