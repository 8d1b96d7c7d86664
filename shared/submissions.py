"""What the store knows of unfinished pipelines, so that they can be sent again if the broker loses them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from shared.errors import StoreUnavailable, store_errors
from shared.plan import Plan
from shared.records import Model
from shared.store import file_of

logger = logging.getLogger(__name__)


class Submission(Model):
    """A pipeline as it was submitted."""

    plan: Plan
    #: The Celery canvas, as JSON: what is sent to have the plan done.
    canvas: str


class Submissions:
    """One file a pipeline, `pipelines/<id>.json` in the store, from its submission to its end."""

    def __init__(self, store: Path) -> None:
        self._folder = store.absolute() / "pipelines"

    def enter(self, pipeline: str, submission: Submission) -> None:
        """Keep a submission: whole, and on the disk, when this returns.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        path = self._path(pipeline)
        with store_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(descriptor, "w") as file:
                file.write(submission.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline."""
        with store_errors(self._folder):
            self._path(pipeline).unlink(missing_ok=True)

    def find(self, pipeline: str) -> Submission | None:
        """The submission of a pipeline, if it is kept; what is none of this version is passed over with a warning."""
        path = self._path(pipeline)
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(f"store: {path}: {error.strerror or error}") from error
        try:
            return Submission.model_validate_json(text)
        except ValidationError:
            logger.warning("%s: not a pipeline of this version: it is passed over", path)
            return None

    def __iter__(self) -> Iterator[tuple[str, Submission]]:
        """Each kept pipeline's id and submission."""
        for path in sorted(self._folder.glob("*.json")):
            if submission := self.find(path.stem):
                yield path.stem, submission

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each kept pipeline's id and submission, as JSON of whatever version wrote it."""
        for path in sorted(self._folder.glob("*.json")):
            with store_errors(path), suppress(FileNotFoundError):  # Finished at this moment.
                yield path.stem, path.read_text()

    def _path(self, pipeline: str) -> Path:
        return file_of(pipeline, self._folder, ".json")
