"""Data demands: whether data that nothing was known of before they were read are what their pipeline needs."""

from __future__ import annotations

from collections.abc import Callable

from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.errors import InvalidSpec, UnknownPipeline, UnreadableRecord, Untrusted
from distill_queue.shared.plan.demands import unmet
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import DatasetRecord
from distill_queue.shared.store.artifact import Artifact


def failure_of(stage: Stage, artifact: Artifact, plan_of: Callable[[], Plan]) -> InvalidSpec | None:
    """Why a data set is not what its pipeline needs: samples that it chooses by, or that have the views it asks for.

    The data themselves are right, and stay in the store for other pipelines. Of built-in sets the client knows this.

    Args:
        stage: any one.
        artifact: of the stage.
        plan_of: reads the pipeline's plan at the broker.

    """
    recipe, record = stage.recipe, artifact.record
    if not (isinstance(recipe, PrepareData) and isinstance(record, DatasetRecord)) or recipe.dataset.name in DATASETS:
        return None
    try:
        text = unmet(plan_of(), record)
    except (UnknownPipeline, UnreadableRecord, Untrusted):  # Each stage says for itself then what it lacks.
        return None
    return InvalidSpec(text) if text else None
