"""Evaluate: a model's scores on the test set, beside the teacher, and what it costs."""

from __future__ import annotations

import torch

from distill_queue.shared.plan.recipes import Counting, Evaluate, counting_of, models_of
from distill_queue.shared.results.class_scores import ClassScores, imbalanced
from distill_queue.shared.results.measure import BY_CLASS
from distill_queue.shared.results.records import (
    MOST_CLASSES,
    ChoiceRecord,
    ClassesRecord,
    EvaluationRecord,
    TrainingRecord,
)
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.store.artifact import Artifact
from distill_queue.worker import models
from distill_queue.worker.evaluation import cost, quality
from distill_queue.worker.stages.context import WEIGHTS, StageContext, weights_of


def run(recipe: Evaluate, context: StageContext) -> EvaluationRecord:
    """Score a model, or the one that was chosen from a grid, on the test set, beside the teacher."""
    model = context.model("model", recipe.seed)
    test, batch_size = context.split_for(model, "test")
    teacher_logits = _teacher_on_test(context)
    if teacher_logits is not None and context.inputs["model"].folder == context.inputs["teacher"].folder:
        logits = teacher_logits
    else:
        logits = quality.logits_of(model, test, context.report, batch_size)
    quality.predictions(logits).write(context.folder)
    of_model = context.inputs["model"].manifest
    weights = WEIGHTS if recipe.seed is None else weights_of(recipe.seed)
    trained = of_model.record
    if isinstance(trained, ChoiceRecord) and recipe.seed is not None:
        trained = trained.trained[recipe.seed]
    recorded = trained if isinstance(trained, TrainingRecord) and trained.trained_parameters is not None else None
    context.report("latency")
    latency_median_ms, latency_p95_ms = cost.latency_ms(model, test)
    return EvaluationRecord(
        samples=len(test),
        accuracy=quality.accuracy(logits, test.targets),
        negative_log_likelihood=quality.negative_log_likelihood(logits, test.targets),
        agreement=None if teacher_logits is None else quality.agreement(logits, teacher_logits),
        parameters=models.parameters(model),
        trained_parameters=recorded.trained_parameters if recorded else models.trained_parameters(model),
        multiply_adds=cost.multiply_adds(model, test, _counting(context.inputs["model"])),
        size_bytes=of_model.files[weights].size_bytes,
        latency_median_ms=latency_median_ms,
        latency_p95_ms=latency_p95_ms,
        throughput=cost.throughput(model, test, batch_size),
        device=context.runtime.provenance.device,
        training_seconds=trained.seconds if isinstance(trained, TrainingRecord) else None,
        classes=_classes(quality.class_scores(logits, test.targets), trained),
    )


def _classes(scores: ClassScores, trained: Record | None) -> ClassesRecord | None:
    """The scores of the classes, where these are imbalanced or the training asks for such; else None."""
    asked = isinstance(trained, TrainingRecord) and trained.best_by in BY_CLASS
    if not asked and not imbalanced(scores.samples):
        return None
    few = len(scores.samples) <= MOST_CLASSES
    of_each = {name: tuple(getattr(scores, name).tolist()) for name in ("samples", "precision", "recall", "f1")}
    return ClassesRecord(
        balanced_accuracy=scores.balanced_accuracy, macro_f1=scores.macro_f1, **(of_each if few else {})
    )


def _counting(model: Artifact) -> Counting:
    """How to count a model's multiply-adds, by the recipe that it was made after."""
    stage = model.manifest.stage
    return counting_of(models_of(stage.recipe)) if stage else "operators"


def _teacher_on_test(context: StageContext) -> torch.Tensor | None:
    """The teacher's logits on the test set."""
    if "teacher" not in context.inputs:
        return None

    def compute() -> torch.Tensor:
        teacher = context.model("teacher")
        test, batch_size = context.split_for(teacher, "test")
        return quality.logits_of(teacher, test, context.report, batch_size)

    folders = (context.inputs["teacher"].folder, context.inputs["dataset"].folder)
    return context.teacher_on_test.get((*folders, context.runtime.device), compute)
