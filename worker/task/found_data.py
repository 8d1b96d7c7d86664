"""Found data: whether data that only workers see are still those that the store has under the key of their path."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from distill_queue.shared.errors import Cancelled, HandedBack, InvalidInput, StageFailed
from distill_queue.shared.files.hashing import Advance, Hashed
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.status import StageState, State
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker.coordination.stop import Stop
from distill_queue.worker.task.received import ReceivedTask

#: Seconds before the first report, and between two of them.
REPORT_SECONDS = 0.5


@dataclass(slots=True)
class Comparison:
    """Called while the files of a data set that was found are hashed: reports how far that is."""

    received: ReceivedTask
    stage: Stage
    ledger: Ledger
    stop: Stop
    _next: float = field(default_factory=lambda: time.monotonic() + REPORT_SECONDS)

    def __call__(self, hashed: Hashed) -> None:
        """Report.

        Raises:
            StageStopped: the worker is told to end, or the pipeline was cancelled.

        """
        words, pipeline = f"comparing the files: {hashed.words}", self.received.pipeline
        if self.stop.asked:
            raise HandedBack(f"{self.received.worker} ends; it was at {words}")
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + REPORT_SECONDS
        state = StageState(state=State.RUNNING, progress=words, share=hashed.share, worker=self.received.worker)
        self.ledger.note(pipeline, [self.stage.key], state)
        if self.ledger.is_cancelled(pipeline):
            raise Cancelled(f"the pipeline was cancelled; it was at {words}")


def failure_of(stage: Stage, found: Artifact, settings: Settings, advance: Advance) -> StageFailed | None:
    """Why a data set in the store is not to be used: what lies at its path now has another content.

    Nothing is said of what this worker does not see, and where the content is part of the key.

    Args:
        stage: any one.
        found: the artifact of the stage.
        settings: the folders of data.
        advance: called with how far the files are hashed; what it raises ends that.

    """
    recipe, record = stage.recipe, found.record
    if not (isinstance(recipe, PrepareData) and isinstance(recipe.dataset, SourceOnDisk)):
        return None
    dataset = recipe.dataset
    if dataset.content is not None or not isinstance(record, DatasetRecord) or record.content is None:
        return None
    try:
        if dataset.find_content(settings.data, settings.contents, advance) in (None, record.content):
            return None
    except InvalidInput as error:
        return StageFailed(f"dataset.path: {error}")
    return StageFailed(
        f"{dataset.path} has changed since it was prepared, and the store has what it was before: submit the pipeline "
        "from a machine that sees the data, or give the spec another dataset.version"
    )
