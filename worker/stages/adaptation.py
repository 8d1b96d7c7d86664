"""Adaptation: a student is trained on with rounded weights and inputs, so that it loses less as integers of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import nn

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.recipes import ChooseStudent, Export
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.export import AdaptedRecord
from distill_queue.shared.results.records import ChoiceRecord
from distill_queue.worker.exports.fake_quantisation import ranges_of, round_layers
from distill_queue.worker.exports.job import CALIBRATION_BATCH, CALIBRATION_SAMPLES
from distill_queue.worker.machine.inputs import Inputs
from distill_queue.worker.stages.context import StageContext, record_of
from distill_queue.worker.stages.model_start import ModelStart
from distill_queue.worker.stages.train import train_from


def adapt(recipe: Export, model: nn.Module, context: StageContext, accuracy: float) -> AdaptedRecord:
    """Train a student on, by its own losses, with what integers would leave of its weights and its layers' inputs.

    Args:
        recipe: has the training.
        model: the student; it is changed.
        context: of its export.
        accuracy: of the file that its own weights made.

    Raises:
        StageFailed: it has no layers whose weights can be rounded, or its loss was not finite any more.

    """
    if context.checkpoints is None:
        raise TypeError("a student is adapted where a later attempt can go on with it")
    # Its key only names what its checkpoints are of, which lie in the folder of the export's own unfinished work.
    stage = Stage.of(context.title, learning := recipe.adaptations[_point(context)])
    context.checkpoints.members = [stage.key]
    told = replace(context, report=lambda words, *more: context.report(f"with rounded weights: {words}", *more))
    ((rounded, outcome),) = train_from([_RoundedStart(stage, context, model)], told, context.checkpoints)
    if isinstance(outcome, StageFailed):
        raise StageFailed(f"{context.title}: trained on with rounded weights: {outcome}")
    model.load_state_dict(rounded.state_dict())
    return AdaptedRecord(
        epochs=outcome.record.epochs,
        learning_rate=learning.training.learning_rate,
        seconds=outcome.record.seconds,
        accuracy_before=accuracy,
    )


class _RoundedStart(ModelStart):
    """A training that begins with a trained student's weights, and rounds them in each step."""

    #: torch looks at the scales of weights before it rounds by them, which waits for the device.
    can_be_recorded = False
    #: The ranges by which inputs are rounded are beside the weights, and of no use afterwards.
    is_whole = False

    def __init__(self, stage: Stage, context: StageContext, model: nn.Module) -> None:
        super().__init__(stage, context)
        self._weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        self._ranges = ranges_of(model.to(context.runtime.device), _calibration(context))
        if not self._ranges:
            raise StageFailed(
                f"{context.title}: quantise: aware rounds the weights of linear layers and of two-dimensional "
                "convolutions before the last layer, and the model has none"
            )

    def prepare(self, model: nn.Module) -> None:
        """Freeze what was frozen before, put the weights in, and round them from now on."""
        super().prepare(model)
        model.load_state_dict(self._weights)
        round_layers(model, self._ranges)


def _point(context: StageContext) -> int:
    """The place of the chosen point of a student's grid; 0 of a student without one."""
    stage = context.inputs["model"].manifest.stage
    chosen = stage is not None and isinstance(stage.recipe, ChooseStudent)
    return record_of(context.inputs["model"], ChoiceRecord).best if chosen else 0


def _calibration(context: StageContext) -> Iterator[Inputs]:
    """The samples that exporters find ranges by, as the student takes them."""
    train = context.split("train", streamed=True)
    for start in range(0, min(len(train), CALIBRATION_SAMPLES), CALIBRATION_BATCH):
        yield train.normalised(slice(start, start + CALIBRATION_BATCH))
