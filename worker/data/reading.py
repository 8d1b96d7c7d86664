"""Reading: what a source of data works with: the worker's folders, a place for large arrays, reports of progress."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from distill_queue.shared.errors import InvalidInput, InvalidSpec, StageFailed, Unavailable
from distill_queue.shared.files.data_folders import find_in
from distill_queue.shared.files.hashing import Hashed
from distill_queue.shared.line import listed
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.worker.machine.outages import can_pass
from distill_queue.worker.machine.runtime import Report, Runtime

#: Folders that a message names one by one.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source may use while it reads a data set."""

    runtime: Runtime
    #: A folder for arrays that are larger than memory: sources write them there and map them. It goes with the reading.
    scratch: Path = Path()
    report: Report = lambda *_: None

    def counting(self, total: int, noun: str) -> Callable[[int], None]:
        """What is called with how many more of `total` things are done, and reports how many are."""
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            self.report(f"{done:,} of {total:,} {noun}", more, done / total)

        return advance

    def place(self, dataset: SourceOnDisk, key: str = "path") -> Path:
        """Where the data lie on this worker; only its folders of data are looked in.

        Args:
            dataset: names them by a path.
            key: of the spec's key that holds the path; some sources have a further one.

        Raises:
            InvalidSpec: this worker has no such folder, or nothing there has the path.
            StageFailed: what lies there is not what was submitted.

        """
        path = dataset.further_paths.get(key, dataset.path)
        folders = self.runtime.data
        if not folders:
            raise InvalidSpec(
                f"dataset.{key}: {path}: this worker reads no files: DISTILL_DATA is to name the folders of data"
            )
        found = find_in(folders, path)
        if found is None:
            where = listed([str(folder) for folder in folders], MOST_NAMED)
            raise InvalidSpec(f"dataset.{key}: {path} is not in {where} (DISTILL_DATA) on this worker")
        return found

    def content(self, dataset: SourceOnDisk) -> str:
        """The SHA-256 of the data at all paths of a spec, compared with what was submitted.

        Raises:
            InvalidSpec: something cannot be read.
            Unavailable: the same, and may pass by itself.
            StageFailed: it is not what was submitted.
            StageStopped: `report` raised it.

        """
        self.report("comparing the files with what was submitted")
        try:
            content = dataset.find_content(self.runtime.data, self.runtime.digests, self._compare)
        except InvalidInput as error:
            raise (Unavailable if can_pass(error) else InvalidSpec)(f"dataset.path: {error}") from error
        if content is None:  # One of them is gone again, or was never there.
            for key in ("path", *dataset.further_paths):
                self.place(dataset, key)
            return self.content(dataset)
        if dataset.content not in (None, content):
            raise StageFailed(
                f"{dataset.path} is not what was submitted: it has changed since, or is another one on this worker: "
                "submit the pipeline again"
            )
        return content

    def require_unchanged(self, dataset: DatasetSpec, content: str | None) -> None:
        """Refuse data that changed while they were read: what was read is no content that a key names.

        Args:
            dataset: what was read.
            content: its SHA-256 before; none of what lies at no path.

        Raises:
            StageFailed: they changed.
            InvalidSpec, Unavailable, StageStopped: as for `content`.

        """
        if content is not None and isinstance(dataset, SourceOnDisk) and self.content(dataset) != content:
            raise StageFailed(f"{dataset.path} changed while it was read: submit the pipeline again")

    def _compare(self, hashed: Hashed) -> None:
        """Report how far the files are hashed."""
        self.report(f"comparing the files: {hashed.words}", 0, hashed.share)
