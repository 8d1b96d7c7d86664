"""Side by side: how many workers finish one pipeline soonest on this machine."""

from __future__ import annotations

from math import prod

from distill_queue.scheduler.stack.devices import cores, has_gpu
from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.plan.course import Step
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import PrepareData, Training, models_of
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.models.mlp import MlpSpec

#: Most workers that are started unasked: each takes 0.6 to 0.9 GB for its libraries and a data set such as MNIST.
MOST_WORKERS = 4
#: Widest layer, inputs included, by samples of a batch up to which a second thread saves a tenth of a step at the most
#: (MLP 784-512-256, batch 256, 2 cores): two trainings side by side, a thread each, then take little longer than one.
SMALL_STEP = 784 * 256


def workers_for(plan: Plan, settings: Settings) -> int:
    """How many workers share this machine's cores best: one with all of them, or several where all steps are small.

    One where the settings say how many threads a worker has, on a machine with a GPU, and for data of the user's own:
    each worker holds the data, and how large they are is not known here.
    """
    data = plan.trunk[0].recipe
    facts = DATASETS.get(data.dataset.name) if isinstance(data, PrepareData) else None
    if facts is None or settings.threads or plan.device == "gpu" or has_gpu():
        return 1
    if not all(_is_small(stage, prod(facts.shape)) for stage in plan.stages):
        return 1
    return max(1, min(cores(), max(map(_trainings, plan.course)), MOST_WORKERS))


def _trainings(step: Step) -> int:
    """How many trainings may run side by side in a step."""
    return sum(isinstance(first[0].recipe, Training) for first, *_ in step.branches)


def _is_small(stage: Stage, inputs: int) -> bool:
    """Whether a second thread hardly helps a stage, for samples of some inputs."""
    batch_size = stage.recipe.training.batch_size if isinstance(stage.recipe, Training) else 1
    models = models_of(stage.recipe)
    return all(
        isinstance(model, MlpSpec) and max(inputs, *model.hidden, 1) * batch_size <= SMALL_STEP for model in models
    )
