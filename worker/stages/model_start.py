"""Model start: what a training begins with: which parameters are frozen, given weights, an earlier training's end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from distill_queue.shared.errors import ArtifactDamaged, StageFailed
from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.plan.starts import STATE
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker import models
from distill_queue.worker.stages.context import WEIGHTS, StageContext
from distill_queue.worker.training.checkpoints import Checkpoint


class ModelStart:
    """The beginning of one training."""

    #: Whether on a card a step may be recorded, where the model's family allows it.
    can_be_recorded = True
    #: Whether a prepared model is all in its weights and buffers.
    is_whole = True

    def __init__(self, stage: Stage, context: StageContext) -> None:
        """Open what the stage begins with, if its weights are not drawn.

        Raises:
            StageFailed: it trains no model.

        """
        self.recipe = training_of(stage)
        self._start, self._classes = self.recipe.start, context.dataset.classes
        self._artifact = context.start(stage) if self._start else None
        #: What the training begins with, as the end of a sentence; empty where weights are drawn.
        self.words = self._start.words if self._start else ""

    def prepare(self, model: nn.Module) -> None:
        """Freeze a new model's parameters, and put the weights into it that it starts from.

        Raises:
            InvalidSpec: they do not fit, or what is to be frozen is not there.

        """
        models.freeze(model, self.recipe.training)
        if self._start and self._artifact and self._start.mode == "weights":
            called = f"weights: {self._start.file}" if self._start.file else f"continues: {self._start.student}"
            changed = models.start(model, self._artifact.path(WEIGHTS), called, self._classes)
            self.words = "; ".join(filter(None, (self._start.words, changed)))

    @property
    def earlier(self) -> Callable[[], Checkpoint] | None:
        """Reads the end of the training that this one goes on from, which is larger than the model; None without one.

        It raises `ArtifactDamaged` where that is not what this version writes.
        """
        goes_on = self._start and self._artifact and self._start.mode == "state"
        return partial(_read, self._artifact.path(STATE)) if self._artifact and goes_on else None

    @property
    def training(self) -> TrainingSpec:
        """How the model is trained, with the epochs of the training that this one goes on from."""
        training, earlier = self.recipe.training, self.earlier
        if earlier is None:
            return training
        return training.model_copy(update={"epochs": training.epochs + earlier().facts["epoch"]})


def training_of(stage: Stage) -> Training:
    """The recipe of a stage that trains a model.

    Raises:
        StageFailed: the stage does something else.

    """
    if not isinstance(stage.recipe, Training):
        raise StageFailed(f"{stage.kind} trains no model")
    return stage.recipe


def _read(path: Path) -> Checkpoint:
    try:
        return Checkpoint.of_bytes(path.read_bytes())
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactDamaged(f"{path}: not the state of a training: {error}") from error
