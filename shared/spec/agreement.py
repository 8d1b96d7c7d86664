"""Agreement: what the parts of a pipeline's spec ask of each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import DATASETS, STAGE_KINDS, did_you_mean
from distill_queue.shared.spec.assistants import Students
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, OneTeacher, TeacherSpec, WeightedTeacherSpec
from distill_queue.shared.spec.training import BLENDS

#: Most teachers, each seed counted.
MOST_TEACHERS = 100

#: Students and candidates of grids, each with its place in the spec.
Candidates = Iterable[tuple[str, StudentSpec]]


def require_teachers(
    teacher: OneTeacher | None, teachers: tuple[WeightedTeacherSpec, ...], each_seed: tuple[TeacherSpec, ...]
) -> None:
    """Refuse a pipeline without a teacher, or with one twice.

    Args:
        teacher: a single one.
        teachers: several.
        each_seed: all of them, once for each of their seeds.

    Raises:
        PydanticCustomError: as do all functions here, where what they are given does not fit together.

    """
    if (teacher is None) == (not teachers):
        raise PydanticCustomError("teacher", "a pipeline has either 'teacher' or 'teachers'", {"key": "teacher"})
    if len(each_seed) > MOST_TEACHERS:
        raise PydanticCustomError(
            "teacher",
            "{count} teachers with all their seeds: {most} are the most",
            {"key": "teachers", "count": len(each_seed), "most": MOST_TEACHERS},
        )
    models = [each.model_copy(update={"weight": 1.0}) for each in each_seed]
    if any(model in models[:index] for index, model in enumerate(models)):
        raise PydanticCustomError(
            "teacher", "two teachers are the same: give one of them more weight", {"key": "teachers"}
        )
    if len(teachers) == 1:
        raise PydanticCustomError("teacher", "a single teacher is given as 'teacher'", {"key": "teachers"})


def require_several(average: str, each_seed: tuple[TeacherSpec, ...], assistants: Students) -> None:
    """Refuse an average of one teacher."""
    several = len(each_seed) > 1 or any(assistant.seeds > 1 for assistant in assistants)
    if not several and average != "probabilities":
        raise PydanticCustomError(
            "options", "an average needs several teachers, or an assistant with several seeds", {"key": "average"}
        )


def require_use_of_labels(teacher: OneTeacher | None, soft_labels: SoftLabelsSpec, assistants: Students) -> None:
    """Refuse to ask of a teacher that is known by its labels what only a model can do."""
    if not isinstance(teacher, LabelTeacherSpec):
        return
    if soft_labels.online:
        raise PydanticCustomError(
            "options", "a teacher that is known by its labels cannot answer online", {"key": "soft_labels.mode"}
        )
    if soft_labels.shards != "auto" and not assistants:
        raise PydanticCustomError(
            "options", "given labels are not computed: there is nothing to share", {"key": "soft_labels.shards"}
        )


def require_rest(top_k: int | None, dataset: DatasetSpec) -> None:
    """Refuse top-k labels that leave no class out."""
    facts = DATASETS.get(dataset.name)
    if facts and top_k is not None and top_k >= facts.classes:
        raise PydanticCustomError(
            "options",
            "{top_k} of {classes} classes: leave it out to keep all",
            {"key": "soft_labels.top_k", "top_k": top_k, "classes": facts.classes},
        )


def require_channels(teachers: dict[str, TeacherSpec], dataset: DatasetSpec) -> None:
    """Refuse teachers, by their places, whose inputs are normalised as samples with other channels are."""
    facts = DATASETS.get(dataset.name)
    for place, teacher in teachers.items():
        normalise = teacher.normalise
        channels = 3 if normalise == "imagenet" else 1 if isinstance(normalise, str) else len(normalise.mean)
        if facts and channels not in (1, facts.shape[0]):
            raise PydanticCustomError(
                "options",
                "{what} is of {channels} channels, and samples of '{name}' are of shape {shape}",
                {
                    "key": f"{place}.normalise",
                    "what": "imagenet" if normalise == "imagenet" else "the mean",
                    "channels": channels,
                    "name": dataset.name,
                    "shape": str(facts.shape),
                },
            )


def require_names(students: Students) -> None:
    """Refuse two students of one name, and one that is called as the teacher."""
    seen: set[str] = set()
    for student in students:
        if student.name == "teacher":
            raise PydanticCustomError("students", "no student can be named 'teacher'", {"key": "students"})
        if student.name in seen:
            raise PydanticCustomError(
                "students", "two students are named '{name}'", {"key": "students", "name": student.name}
            )
        seen.add(student.name)


def require_labels(candidates: Candidates, dataset: DatasetSpec, augmentation: AugmentationSpec) -> None:
    """Refuse to choose samples by their class where some have no label, or are blended with others."""
    for place, student in candidates:
        if dataset.labelled is not None and not student.transfer.changes_nothing:
            raise PydanticCustomError(
                "options",
                "{place}.transfer: a class is known by its label, and dataset.labelled leaves samples without one",
                {"key": "dataset.labelled", "place": place},
            )
        if augmentation.blends and not student.transfer.changes_nothing:
            blend = "mixup" if augmentation.mixup else "cutmix"
            raise PydanticCustomError(
                "options",
                "{place}.transfer: {blend} blends in samples of all classes",
                {"key": f"soft_labels.augmentation.{blend}", "place": place, "blend": blend},
            )


def require_draws(candidates: Candidates, dataset: DatasetSpec, augmentation: AugmentationSpec) -> None:
    """Refuse to draw all classes equally often where some samples have no label, or are blended with others."""
    for place, student in candidates:
        if student.training.sampling != "balanced":
            continue
        key = f"{place.replace('[', '.').replace(']', '')}.training.sampling"
        if augmentation.blends:
            raise PydanticCustomError("options", BLENDS, {"key": key})
        if dataset.labelled is not None:
            raise PydanticCustomError(
                "options",
                "a class is known by its label, and dataset.labelled leaves samples without one",
                {"key": key},
            )


def require_classes(candidates: Candidates, dataset: DatasetSpec) -> None:
    """Refuse numbers of classes that the data do not have."""
    facts = DATASETS.get(dataset.name)
    for place, student in candidates:
        for number in student.transfer.named:
            if facts and isinstance(number, int) and number >= facts.classes:
                raise PydanticCustomError(
                    "options",
                    "{place}.transfer: class {number} is none of the {classes} classes of '{name}', from 0 on",
                    {"place": place, "number": number, "classes": facts.classes, "name": dataset.name},
                )


def require_held_out(choosing: str, dataset: DatasetSpec) -> None:
    """Refuse to choose by held-out samples where none can be."""
    if choosing and not dataset.may_hold_out:
        raise PydanticCustomError(
            "options",
            "{choosing}: set dataset.validation to their share, as 0.1",
            {"key": "dataset.validation", "choosing": choosing},
        )


def require_views(augmented: dict[str, AugmentationSpec], dataset: DatasetSpec) -> None:
    """Refuse augmentations, by their places, that samples cannot have."""
    sample = dataset.sample
    for place, augmentation in augmented.items():
        if sample and (found := augmentation.misfit(sample)):
            part, words = found
            key = f"{place}.augmentation{part and f'.{part}'}"
            raise PydanticCustomError("options", "{words}", {"key": key, "words": words})


def require_kinds(kinds: Sequence[str]) -> None:
    """Refuse limits of stages that there are not."""
    for kind in kinds:
        if kind not in STAGE_KINDS:
            raise PydanticCustomError(
                "time_limits",
                "unknown kind of stage '{name}'{hint}",
                {"key": "time_limits", "name": kind, "hint": did_you_mean(kind, STAGE_KINDS)},
            )
