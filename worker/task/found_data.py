"""Found data: whether data that only workers see are still those that the store has under the key of their path."""

from __future__ import annotations

from distill_queue.shared.errors import InvalidInput, StageFailed
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.shared.store.artifact import Artifact


def failure_of(stage: Stage, found: Artifact, settings: Settings) -> StageFailed | None:
    """Why a data set in the store is not to be used: what lies at its path now has another content.

    Nothing is said of what this worker does not see, and where the content is part of the key.
    """
    recipe, record = stage.recipe, found.record
    if not (isinstance(recipe, PrepareData) and isinstance(recipe.dataset, SourceOnDisk)):
        return None
    dataset = recipe.dataset
    if dataset.content is not None or not isinstance(record, DatasetRecord) or record.content is None:
        return None
    try:
        if dataset.find_content(settings.data, settings.contents) in (None, record.content):
            return None
    except InvalidInput as error:
        return StageFailed(f"dataset.path: {error}")
    return StageFailed(
        f"{dataset.path} has changed since it was prepared, and the store has what it was before: submit the pipeline "
        "from a machine that sees the data, or give the spec another dataset.version"
    )
