"""What the store knows of unfinished pipelines, so that they can be sent again if the broker forgets them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from shared.errors import UnknownPipeline
from shared.plan import Plan
from shared.store import store_errors

logger = logging.getLogger(__name__)


class Submissions:
    """One file a pipeline, `pipelines/<id>.json` in the store: its plan, from submission to report or cancellation."""

    def __init__(self, store: Path) -> None:
        self._folder = store.absolute() / "pipelines"

    def enter(self, pipeline: str, plan: Plan) -> None:
        """Keep a pipeline's plan: whole, and on the disk, when this returns.

        Raises:
            StoreUnavailable: it cannot be written.

        """
        path = self._path(pipeline)
        with store_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._folder)
            with os.fdopen(descriptor, "w") as file:
                file.write(plan.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)

    def remove(self, pipeline: str) -> None:
        """Forget a pipeline."""
        with store_errors(self._folder):
            self._path(pipeline).unlink(missing_ok=True)

    def __iter__(self) -> Iterator[tuple[str, Plan]]:
        """Each kept pipeline's id and plan; what is no plan of this version is passed over with a warning."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield path.stem, Plan.model_validate_json(path.read_bytes())
            except ValidationError:
                logger.warning("%s: not a pipeline of this version: it is passed over", path)

    def _path(self, pipeline: str) -> Path:
        if Path(pipeline).name != pipeline or pipeline in ("", ".."):
            raise UnknownPipeline(f"'{pipeline}' is no pipeline's id")
        return self._folder / f"{pipeline}.json"
