"""A small disk of its own, which can be filled and made read-only. It needs root, to mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BALLAST = ".ballast"


def can_mount() -> bool:
    """Whether this user can mount one here."""
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return os.geteuid() == 0 and not subprocess.run(probe, capture_output=True, check=False).returncode


@dataclass(frozen=True, slots=True)
class SmallDisk:
    """A mounted disk of 4 MB in memory."""

    folder: Path

    def fill(self) -> None:
        """Take all the room that is left."""
        descriptor = os.open(self.folder / BALLAST, os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(descriptor, bytes(4096)):
                pass
        except OSError:
            pass  # Full.
        finally:
            os.close(descriptor)

    def make_room(self) -> None:
        """Give it back."""
        (self.folder / BALLAST).unlink()

    def set_read_only(self) -> None:
        """Refuse every write, as soon as no file is open for writing."""
        while subprocess.run(["mount", "-o", "remount,ro", self.folder], capture_output=True, check=False).returncode:
            pass

    def set_writable(self) -> None:
        """Allow writes again."""
        subprocess.run(["mount", "-o", "remount,rw", self.folder], check=True)


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    """Mount one at a folder; at the end of the block it is gone with all that is on it."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
