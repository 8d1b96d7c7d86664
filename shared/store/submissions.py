"""What the store knows of unfinished pipelines, so that they can be sent again if the broker loses them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import PurePath

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.files.files import NoFile
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.line import listed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spelling import is_pipeline_id, pipeline_id
from distill_queue.shared.store.store import ArtifactStore

logger = logging.getLogger(__name__)

#: What a submission's name ends with.
SUFFIX = ".json"
#: How many names that are no pipelines' a warning lists.
MOST_NAMED = 5


class Submission(Frozen):
    """A pipeline as it was submitted."""

    plan: Plan
    #: The Celery canvas as JSON: the messages that start the plan's stages.
    canvas: str


class Submissions:
    """One document a pipeline, `pipelines/<id>.json` in the store, from its submission to its end."""

    def __init__(self, store: ArtifactStore) -> None:
        self._documents = store.documents("pipelines")
        self._place = f"{store}/pipelines"

    def enter(self, pipeline: str, submission: Submission) -> None:
        """Keep a submission: whole, and on the disk, when this returns.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        self._documents.write(_name_of(pipeline), submission.model_dump_json().encode())

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline."""
        self._documents.remove(_name_of(pipeline))

    def find(self, pipeline: str) -> Submission | None:
        """The submission of a pipeline, if it is kept and readable; an unreadable one is logged as a warning."""
        name = _name_of(pipeline)
        text = self._read(name)
        if text is None:
            return None
        try:
            return Submission.read(text, f"{self._place}/{name}")
        except UnreadableRecord as error:
            logger.warning("a kept submission is passed over: %s", error)
            return None

    def __iter__(self) -> Iterator[tuple[str, Submission]]:
        """Each kept pipeline's id and submission; files with other names are passed over with one warning."""
        names = self._pipelines()
        if others := [repr(f"{name}{SUFFIX}") for name in names if not is_pipeline_id(name)]:
            logger.warning("%s: no pipelines: %s: they are passed over", self._place, listed(others, MOST_NAMED))
        for pipeline in filter(is_pipeline_id, names):
            if submission := self.find(pipeline):
                yield pipeline, submission

    def texts(self) -> Iterator[tuple[str, str]]:
        """Each kept pipeline's id and submission, as JSON that another version may have written."""
        for pipeline in self._pipelines():
            if (text := self._read(f"{pipeline}{SUFFIX}")) is not None:  # None if the pipeline finished just now.
                yield pipeline, text.decode(errors="replace")

    def _pipelines(self) -> list[str]:
        paths = map(PurePath, self._documents.list())
        return [path.stem for path in paths if path.suffix == SUFFIX and len(path.parts) == 1]

    def _read(self, name: str) -> bytes | None:
        try:
            return self._documents.read(name)
        except NoFile as error:
            logger.warning("%s/%s: passed over, as it is no kept submission: %s", self._place, name, error)
            return None


def _name_of(pipeline: str) -> str:
    """The name of a pipeline's document; raises `UnknownPipeline` where no pipeline has such an id."""
    return f"{pipeline_id(pipeline)}{SUFFIX}"
