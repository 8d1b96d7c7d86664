"""A bucket: objects below a prefix, by name, through the driver that fsspec has for the object store."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distill_queue.shared.catalog import STORE_DRIVERS
from distill_queue.shared.errors import ArtifactMissing, DistillError, InvalidSettings, StoreUnavailable

#: Bytes of one request of a large object, and how many of these are under way at a time.
BLOCK_BYTES = 8_388_608
BLOCKS_AT_ONCE = 8
#: The most seconds to wait for an object store: for a small object, with all retries. A large object may take longer:
#: one second more for so many bytes.
PATIENT_SECONDS = 60.0
SLOWEST_BYTES_PER_SECOND = 1e6
#: Options that drivers are given beside their own environment variables.
OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {
            "connect_timeout": 5,
            "read_timeout": 15,
            "retries": {"mode": "standard", "total_max_attempts": 3},
        }
    },
}
#: The names under which drivers say when an object was written.
TIMES = ("LastModified", "mtime", "updated", "last_modified")
#: Parts of a path that lead elsewhere than into a folder.
STEPS = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True)
class Facts:
    """What a listing says of an object."""

    size_bytes: int
    #: Seconds since the epoch.
    written: float


@dataclass(slots=True)
class Bucket:
    """The objects below a URL such as `s3://bucket/prefix`; connects at the first use, and anew in a forked process.

    Every method raises `StoreUnavailable` where the object store cannot be reached, refuses or does not answer in time.
    """

    url: str
    seconds: float = PATIENT_SECONDS
    #: The bucket that this one is a part of, and whose connection it uses; None if it is no part of another.
    _whole: Bucket | None = field(default=None, repr=False)
    _connection: tuple[int, Any, str] | None = field(default=None, repr=False)

    def below(self, name: str) -> Bucket:
        """The objects whose names begin with a folder's, as a bucket."""
        return Bucket(f"{self.url}/{name}", self.seconds, self)

    def read(self, name: str) -> bytes | None:
        """The content of a small object, if there is one."""
        with self._at(name) as (driver, path):
            try:
                return bytes(driver.cat_file(path, timeout=self.seconds))
            except FileNotFoundError:
                return None

    def read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        """The contents of many small objects, fetched in parallel; objects that are gone are left out."""
        with self._at("") as (driver, root):
            paths = [f"{root}{name}" for name in names]
            found = driver.cat(paths, on_error="return", timeout=self.seconds + len(paths)) if paths else {}
            contents = {}
            for path, content in found.items():
                if isinstance(content, bytes):
                    contents[path.removeprefix(root)] = content
                elif not isinstance(content, FileNotFoundError):
                    raise content
            return contents

    def create(self, name: str, content: bytes) -> bool:
        """Write a small object unless there is one of that name; return whether it was written."""
        with self._at(name) as (driver, path):
            try:
                driver.pipe_file(path, content, mode="create", timeout=self.seconds)
            except FileExistsError:
                return False
            return True

    def keeps_first(self) -> bool:
        """Whether the object store refuses to write an object a second time if asked to: tried with one."""
        name = f"doctor-{time.time_ns()}"
        try:
            return self.create(name, b"first") and not self.create(name, b"second")
        finally:
            self.remove(name)

    def write(self, name: str, content: bytes) -> None:
        """Write a small object, in place of one of that name."""
        with self._at(name) as (driver, path):
            driver.pipe_file(path, content, timeout=self._seconds_for(len(content)))

    def upload(self, file: Path, name: str) -> None:
        """Write a file's content: all of it, or nothing."""
        with self._at(name) as (driver, path):
            driver.put_file(str(file), path, timeout=self._seconds_for(file.stat().st_size))

    def blocks(self, name: str, size_bytes: int) -> Iterator[bytes]:
        """The content of an object of that size, in blocks; a block is asked for again if its connection is cut.

        Raises:
            ArtifactMissing: there is none.

        """
        starts = range(0, size_bytes, BLOCK_BYTES)
        for first in range(0, len(starts), BLOCKS_AT_ONCE):
            some = starts[first : first + BLOCKS_AT_ONCE]
            with self._at(name) as (driver, path):
                ends = [min(start + BLOCK_BYTES, size_bytes) for start in some]
                seconds = self._seconds_for(ends[-1] - some[0])
                try:
                    for block in driver.cat_ranges(
                        [path] * len(some), list(some), ends, on_error="raise", timeout=seconds
                    ):
                        if isinstance(block, Exception):  # fsspec of 2025 returns what it was asked to raise.
                            raise block
                        yield block
                except FileNotFoundError:
                    raise ArtifactMissing(f"{self.url}/{name}: missing") from None

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name."""
        with self._at(name) as (driver, path):
            try:
                return bool(driver.info(path, timeout=self.seconds)["type"] == "file")
            except FileNotFoundError:
                return False

    def list(self, folder: str = "") -> dict[str, Facts]:
        """The objects whose names begin with a folder's, by name.

        Names with parts such as `..` are passed over, as a driver or a server may take them for other names.
        """
        with self._at(folder) as (driver, path):
            root = path.removesuffix(folder)
            found = driver.find(path.rstrip("/"), detail=True, timeout=10 * self.seconds)
            names = {name: name.removeprefix(root) for name in sorted(found)}
            return {own: _facts(found[name]) for name, own in names.items() if STEPS.isdisjoint(own.split("/"))}

    def remove(self, *names: str) -> None:
        """Remove objects; those that are gone already are no error."""
        if not names:
            return
        with self._at("") as (driver, root), suppress(FileNotFoundError):
            if len(names) == 1:  # Raises if it may not; the driver is silent about many at once.
                driver.rm_file(f"{root}{names[0]}", timeout=self.seconds)
            else:
                driver.rm([f"{root}{name}" for name in names], timeout=self.seconds + len(names))

    def remove_all(self, folder: str = "") -> None:
        """Remove the objects whose names begin with a folder's."""
        self.remove(*self.list(folder))

    @contextmanager
    def _at(self, name: str) -> Iterator[tuple[Any, str]]:
        """The driver, and an object's path as the driver knows it; drivers' errors become `StoreUnavailable`."""
        try:
            driver, root = self._connect()
            yield driver, f"{root}/{name}"
        except DistillError:
            raise
        except Exception as error:
            from billiard.exceptions import SoftTimeLimitExceeded  # Here, as it is slow to import.

            if isinstance(error, SoftTimeLimitExceeded):
                raise
            # Each driver raises the errors of its own libraries, which have no class in common.
            raise StoreUnavailable(f"store: {self.url}/{name}: {str(error) or type(error).__name__}") from error

    def _seconds_for(self, size_bytes: int) -> float:
        return self.seconds + size_bytes / SLOWEST_BYTES_PER_SECOND

    def _connect(self) -> tuple[Any, str]:
        if self._whole:
            driver, root = self._whole._connect()
            return driver, root + self.url.removeprefix(self._whole.url)
        if self._connection is None or self._connection[0] != os.getpid():
            import fsspec  # Here, as commands whose store is a folder need not wait for it and its driver.

            scheme = urlsplit(self.url).scheme
            options = OPTIONS.get(scheme, {}) | {"use_listings_cache": False, "skip_instance_cache": True}
            try:
                driver, root = fsspec.url_to_fs(self.url, **options)
            except ImportError:
                name = STORE_DRIVERS[scheme]
                raise InvalidSettings(f"DISTILL_STORE: {self.url} needs its driver: pip install {name}") from None
            self._connection = os.getpid(), driver, root
        return self._connection[1:]


def _facts(about: dict[str, Any]) -> Facts:
    written = next((about[name] for name in TIMES if about.get(name)), 0.0)
    if isinstance(written, str):
        written = datetime.fromisoformat(written)
    return Facts(int(about["size"]), written.timestamp() if isinstance(written, datetime) else float(written))
