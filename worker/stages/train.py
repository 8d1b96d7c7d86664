"""Train: a teacher, students and controls; several of one shape side by side, as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.recipes import Distill, Labels, TrainControl, Training, TrainTeacher, models_of
from distill_queue.shared.plan.stage import Bundle
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.worker import models
from distill_queue.worker.data.batches import Batches, size_bytes
from distill_queue.worker.data.online_teacher import OnlineTeacher
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.machine import memory, plugins, recorded_step
from distill_queue.worker.stages.context import StageContext
from distill_queue.worker.stages.model_start import ModelStart
from distill_queue.worker.training import own_code, probe
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal
from distill_queue.worker.training.probe import Findings

#: Share of the free memory up to which normalised samples stay in memory for the process's next training: no estimate
#: of a stage knows of them.
KEPT_SHARE = 1 / 16


def train_models(
    stages: Bundle, context: StageContext, checkpoints: Checkpoints
) -> list[tuple[torch.nn.Module, Trained | StageFailed]]:
    """Train the models of some stages, which have one shape and one schedule: teacher, students and controls."""
    return train_from([ModelStart(stage, context) for stage in stages], context, checkpoints)


def train_from(
    starts: Sequence[ModelStart], context: StageContext, checkpoints: Checkpoints
) -> list[tuple[torch.nn.Module, Trained | StageFailed]]:
    """Train models of one shape and one schedule from what they begin with."""
    recipes, runtime = [start.recipe for start in starts], context.runtime
    first, stacked = recipes[0], len(starts) > 1
    members = [_member(start, context, stacked=stacked) for start in starts]
    labels, labelled = context.soft_labels() if "soft_labels" in context.inputs else (None, None)
    teacher = context.model("teacher") if "teacher" in context.inputs else None
    whose = _whose(first, context)
    augmentation, views = _views(first, labelled)
    mapped = context.split("train", streamed=True)
    inputs = mapped.normalised(slice(0, 1))
    validation = context.split("validation", streamed=True) if context.dataset.validation_samples else None
    beside = (0 if labels is None else labels.header.size_bytes) + (validation.inputs.nbytes if validation else 0)
    as_kept = (context.inputs["dataset"].folder, runtime.device)
    kept = context.prepared.find(as_kept) if augmentation.changes_nothing else None
    if kept is None:
        context.prepared.forget()
    # What is kept is used in place of what an estimate counts, or forgotten.
    built, free = [member.model for member in members], runtime.free_bytes + (0 if kept is None else kept.nbytes)

    def need_of(found: Findings) -> memory.Need:
        size = size_bytes(mapped, augmentation, found.dtype) + beside
        need = memory.of_training(
            built, first.training, inputs, found.dtype, size,
            joined=found.joined, frozen=models.frozen_names(built[0], first.training),
        )  # fmt: skip
        return need if teacher is None else need.beside(teacher, inputs, len(built))

    with plugins.called(whose):
        dtype = runtime.dtype(first.training.precision, stacked=stacked)
        need = need_of(expected := Findings(dtype))
        need.streams(free)  # Raises where there is no room, not even for a probe.
    with plugins.called(whose), memory.running_out_fails(need.explanation_after_all(free)):
        found = probe.examine(
            recipes, built, context.dataset, mapped, runtime, starts[0].prepare, whole=starts[0].is_whole
        )
        need = need if found == expected else need_of(found)
    with plugins.called(whose), memory.running_out_fails(need.explanation_after_all(free)):
        streamed = need.streams(free)
        if kept is not None and (streamed or kept.dtype != found.dtype):
            context.prepared.forget()
            kept = None
        train = mapped if streamed or kept is not None else mapped.read_whole()
        held_out = validation if validation is None or streamed else validation.read_whole()
        teacher_logits: TeacherLogits | OnlineTeacher | None = None
        if labels is not None:
            teacher_logits = TeacherLogits.of(labels, runtime.device, streamed=streamed)
        elif teacher is not None:
            teacher_logits = OnlineTeacher(teacher, found.dtype)
        batches = Batches(train, augmentation, views, found.dtype, teacher_logits, prepared=kept)
        if batches.prepared is not None and batches.prepared.nbytes <= KEPT_SHARE * free:
            context.prepared.keep(as_kept, batches.prepared)
        recordable = not whose and teacher is None and all(start.can_be_recorded for start in starts)
        recorded = recordable and recorded_step.has_room(need, free, streamed=streamed)
        outcomes = fit(
            members, batches, held_out, found.dtype, context.report, checkpoints,
            joined=found.joined, recorded=recorded,
        )  # fmt: skip
    return [
        (member.model, _noted(outcome, found, start.words))
        for member, outcome, start in zip(members, outcomes, starts, strict=True)
    ]


def to_train(bundle: Bundle, missing: Bundle, checkpoints: Checkpoints) -> Bundle:
    """Return what to train: what is missing, and what a checkpoint has beside it, which goes on as a whole only."""
    checkpoint = checkpoints.latest()
    together = set(checkpoint.facts["members"]) if checkpoint else set()
    if {stage.key for stage in missing} <= together:
        missing = tuple(stage for stage in bundle if stage.key in together)
    else:
        checkpoints.clear()
    checkpoints.members = [stage.key for stage in missing]
    return missing


def _noted(outcome: Trained | StageFailed, found: Findings, start: str) -> Trained | StageFailed:
    """Add what the probe found to an outcome's record, and what it began with."""
    if isinstance(outcome, StageFailed) or (found.fallback is None and not start):
        return outcome
    notes = {"fallback": found.fallback, "start": start or None}
    return replace(outcome, record=outcome.record.model_copy(update=notes))


def _member(start: ModelStart, context: StageContext, *, stacked: bool) -> Member:
    recipe = start.recipe
    model = models.build(recipe.model, context.dataset, context.runtime, recipe.training.seed)
    start.prepare(model)
    goal = Goal(label_smoothing=recipe.training.label_smoothing)
    if isinstance(recipe, Distill):
        name = recipe.distillation.loss
        soft_loss = None
        if is_reference(name):
            soft_loss = own_code.soft_loss(recipe.distillation, context.dataset, context.runtime, stacked=stacked)
        goal = Goal(recipe.distillation, recipe.training.label_smoothing, soft_loss)
    classes = None if isinstance(recipe, TrainTeacher) else recipe.transfer.classes(context.dataset.class_names)
    return Member(model, start.training, goal, classes, context.dataset.class_names, start.earlier)


def _whose(recipe: Training, context: StageContext) -> str:
    """Name the user's own code that a training calls; empty where there is none."""
    names = [recipe.model.name, recipe.distillation.loss if isinstance(recipe, Distill) else ""]
    if "teacher" in context.inputs and (taught := context.inputs["teacher"].manifest.stage):
        names += [model.name for model in models_of(taught.recipe)]
    return " or ".join(dict.fromkeys(name for name in names if is_reference(name)))


def _views(recipe: Training, labelled: Labels | None) -> tuple[AugmentationSpec, int | None]:
    """Return the augmentation and the number of views: a teacher sees a new view each epoch, the others the labels'."""
    match recipe:
        case TrainTeacher(training=training):
            return training.augmentation, None
        case TrainControl(augmentation=augmentation, views=views):
            return augmentation, views
        case Distill(online=True, augmentation=augmentation):
            return augmentation, None
    if labelled is None:
        raise StageFailed(f"{recipe.kind} needs soft labels")
    return labelled.augmentation, labelled.views
