"""What the store knows of unfinished pipelines, so that they can be sent again if the broker loses them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from distill_queue.shared.errors import UnreadableRecord, store_errors
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.files.folders import draft_file, found_in
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.store.folder_store import ArtifactStore, file_of

#: Largest submission that is read; that of 10,000 students has 84 MB.
MOST_BYTES = 256_000_000

logger = logging.getLogger(__name__)


class Submission(Frozen):
    """A pipeline as it was submitted."""

    plan: Plan
    #: The Celery canvas, as JSON: what is sent to have the plan done.
    canvas: str


class Submissions:
    """One file a pipeline, `pipelines/<id>.json` in the store, from its submission to its end."""

    def __init__(self, store: ArtifactStore) -> None:
        self._folder = store.root / "pipelines"
        self._objects = store.objects and store.objects.below("pipelines")

    def enter(self, pipeline: str, submission: Submission) -> None:
        """Keep a submission: whole, and on the disk, when this returns.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        path, text = self._path(pipeline), submission.model_dump_json()
        if self._objects:
            self._objects.write(path.name, text.encode())
            return
        with store_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            with draft_file(path) as draft:
                with draft.open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(path)

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline."""
        path = self._path(pipeline)
        if self._objects:
            self._objects.remove(path.name)
            return
        with store_errors(self._folder):
            path.unlink(missing_ok=True)

    def find(self, pipeline: str) -> Submission | None:
        """The submission of a pipeline, if it is kept; what is none of this version is passed over with a warning."""
        path = self._path(pipeline)
        text = self._read(path)
        if text is None:
            return None
        try:
            return Submission.read(text, str(path))
        except UnreadableRecord as error:
            logger.warning("it is passed over: %s", error)
            return None

    def __iter__(self) -> Iterator[tuple[str, Submission]]:
        """Each kept pipeline's id and submission."""
        for path in self._paths():
            if submission := self.find(path.stem):
                yield path.stem, submission

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each kept pipeline's id and submission, as JSON of whatever version wrote it."""
        for path in self._paths():
            if (text := self._read(path)) is not None:  # Else finished at this moment.
                yield path.stem, text.decode(errors="replace")

    def _path(self, pipeline: str) -> Path:
        return file_of(pipeline, self._folder, ".json")

    def _paths(self) -> list[Path]:
        if self._objects:
            return [self._folder / name for name in self._objects.list() if name.endswith(".json")]
        return [path for path in found_in(self._folder) if path.suffix == ".json"]

    def _read(self, path: Path) -> bytes | None:
        if self._objects:
            return self._objects.read(path.name)
        with store_errors(path):
            try:
                return read(path, MOST_BYTES)
            except FileNotFoundError:
                return None
            except NoFile as error:
                logger.warning("%s: no pipeline: %s: it is passed over", path, error)
                return None
