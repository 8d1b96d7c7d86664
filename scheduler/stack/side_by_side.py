"""Side by side: how many workers finish one pipeline soonest on this machine."""

from __future__ import annotations

from distill_queue.scheduler.stack.devices import cores, has_gpu
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Training, models_of
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.models.mlp import MlpSpec

#: Most workers that are started unasked: each takes 0.6 to 0.9 GB for its libraries and its data.
MOST_WORKERS = 4
#: Widest layer by samples of a batch up to which a second thread saves a tenth of a step at the most (MLP 512-256,
#: batch 256, 2 cores): two trainings side by side, of one thread each, then take little longer than one of them.
SMALL_STEP = 512 * 256


def workers_for(plan: Plan, settings: Settings) -> int:
    """How many workers share this machine's cores best: one with all of them, or several where all steps are small.

    One where the settings say how many threads a worker has, and on a machine with a GPU.
    """
    if settings.threads or plan.device == "gpu" or has_gpu() or not all(map(_is_small, plan.stages)):
        return 1
    trainings = [bundle for branch in plan.branches for bundle in branch if isinstance(bundle[0].recipe, Training)]
    return max(1, min(cores(), max(len(trainings), len(plan.teachers)), MOST_WORKERS))


def _is_small(stage: Stage) -> bool:
    """Whether a second thread hardly helps a stage."""
    batch_size = stage.recipe.training.batch_size if isinstance(stage.recipe, Training) else 1
    widths = (max(model.hidden, default=1) for model in models_of(stage.recipe) if isinstance(model, MlpSpec))
    return all(isinstance(model, MlpSpec) for model in models_of(stage.recipe)) and all(
        width * batch_size <= SMALL_STEP for width in widths
    )
