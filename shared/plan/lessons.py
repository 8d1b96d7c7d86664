"""Lessons: who teaches some students, and the soft labels that these learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    ImportSoftLabels,
    JoinTeachers,
    LoadTeacher,
    SoftLabelling,
    Training,
    TrainTeacher,
)
from distill_queue.shared.plan.stage import ArtifactRef, Stage, label_file_ref, weights_ref
from distill_queue.shared.plan.starts import Starts, file_name
from distill_queue.shared.spec.given_files import class_names, weights_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, WeightedTeacherSpec


@dataclass(frozen=True, slots=True)
class Lessons:
    """A teacher's soft labels, or the teacher itself where it answers in each step."""

    #: A model; None where only its labels are given.
    teacher: Stage | None
    #: None where the teacher answers in each step.
    labels: Stage | None
    #: The stage that makes one teacher of several; None where there is nothing to join.
    joined: Stage | None = None

    @property
    def source(self) -> dict[str, ArtifactRef]:
        """What a student learns from, by its role among the inputs of the student's training."""
        if self.labels:
            return {"soft_labels": self.labels.ref}
        return {"teacher": self.teacher.ref} if self.teacher else {}

    @classmethod
    def of_teachers(cls, spec: PipelineSpec, data: Stage, teachers: tuple[Stage, ...]) -> Self:
        """What the pipeline's own teacher, or the average of its teachers, teaches.

        Raises:
            InvalidSpec: the file of given labels cannot be read.

        """
        joined = _joined(spec, data, teachers)
        teacher = joined or next(iter(teachers), None)
        labels = _imported(spec, data) if teacher is None else _labels("soft labels", spec, data, teacher)
        return cls(teacher, labels, joined)

    @classmethod
    def of_assistant(
        cls, name: str, trained: tuple[Stage, ...], choice: Stage | None, spec: PipelineSpec, data: Stage
    ) -> Self:
        """What a student teaches: by the average of its seeds' models, of the best point where it has a grid.

        Args:
            name: the student's.
            trained: its trainings, one for each seed; of a grid, those of any point.
            choice: what chooses from its grid, if it has one.
            spec: says what is averaged, and how labels are stored.
            data: the packed data set.

        """
        recipes = [stage.recipe for stage in trained if isinstance(stage.recipe, Training)]
        seeds = tuple(recipe.training.seed for recipe in recipes)
        average = spec.average if len(seeds) > 1 else "logits"  # Of one model, its own.
        weights, joined = (1.0,) * len(seeds), None
        if choice and isinstance(choice.recipe, ChooseStudent):
            recipe = JoinTeachers(models=choice.recipe.models, weights=weights, average=average, seeds=seeds)
            joined = Stage.of(f"join {name}", recipe, dataset=data.ref, choice=choice.ref)
        elif len(trained) > 1:
            recipe = JoinTeachers(models=tuple(each.model for each in recipes), weights=weights, average=average)
            joined = Stage.of(f"join {name}", recipe, dataset=data.ref, **_numbered(trained))
        teacher = joined or trained[0]
        return cls(teacher, _labels(f"soft labels of {name}", spec, data, teacher), joined)


def teachers_of(spec: PipelineSpec, data: Stage) -> tuple[Stage, ...]:
    """The stages that train or load the spec's own teachers; none where only labels are given.

    Raises:
        InvalidSpec: a checkpoint cannot be read.

    """
    found, starts = [], Starts(spec.dataset)
    for number, teacher in enumerate(spec.all_teachers, start=1):
        name = f"teacher {number}" if len(spec.all_teachers) > 1 else "teacher"
        if teacher.checkpoint is not None:
            weights = weights_of(teacher, spec.dataset)
            load = LoadTeacher(model=teacher.model, normalise=teacher.normalise, classes=class_names(teacher))
            taken = f" ({', '.join(weights.notes)})" if weights.notes else ""
            title = f"load {name} from {file_name(str(weights.path))}{taken}"
            found.append(Stage.of(title, load, dataset=data.ref, checkpoint=weights_ref(weights)))
        else:
            train = TrainTeacher(model=teacher.model, training=teacher.training)
            found.append(starts.stage(f"train {name}", train, teacher, {"dataset": data.ref}))
    return tuple(found)


def _joined(spec: PipelineSpec, data: Stage, teachers: tuple[Stage, ...]) -> Stage | None:
    """The stage that joins several teachers into one model; None where the spec has one teacher, or none."""
    joined = spec.all_teachers
    if len(joined) < 2:
        return None
    models = tuple(teacher.model for teacher in joined)
    weights = tuple(teacher.weight if isinstance(teacher, WeightedTeacherSpec) else 1.0 for teacher in joined)
    normalise = tuple(teacher.normalise for teacher in joined)
    if set(normalise) == {"data"}:
        normalise = ()
    classes = tuple(class_names(teacher) for teacher in joined)
    if not any(classes):
        classes = ()
    recipe = JoinTeachers(models=models, weights=weights, average=spec.average, normalise=normalise, classes=classes)
    return Stage.of("join teachers", recipe, dataset=data.ref, **_numbered(teachers))


def _numbered(teachers: tuple[Stage, ...]) -> dict[str, ArtifactRef]:
    """Several teachers as inputs of the stage that joins them."""
    return {f"teacher {number}": teacher.ref for number, teacher in enumerate(teachers, start=1)}


def _labels(title: str, spec: PipelineSpec, data: Stage, teacher: Stage) -> Stage | None:
    """The stage that computes a teacher's soft labels; None where the teacher answers in each step."""
    if spec.soft_labels.online:
        return None
    return Stage.of(title, SoftLabelling(**_stored(spec)), dataset=data.ref, teacher=teacher.ref)


def _imported(spec: PipelineSpec, data: Stage) -> Stage:
    """The stage that takes soft labels from a file."""
    given = LabelTeacherSpec.model_validate(spec.teacher)
    file = label_file_ref(Path(given.soft_labels))
    title = f"import soft labels from {file_name(given.soft_labels)}"
    return Stage.of(title, ImportSoftLabels(**_stored(spec)), dataset=data.ref, file=file)


def _stored(spec: PipelineSpec) -> dict[str, Any]:
    """How soft labels are stored, and of which views."""
    return spec.soft_labels.model_dump(include={"dtype", "top_k", "views"}) | {
        "augmentation": spec.soft_labels.augmentation
    }
