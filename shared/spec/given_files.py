"""Given files: the weights and the labels that a spec names, looked at before anything is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.given_file import LONGEST_PATH, shown
from distill_queue.shared.files.markup import Location
from distill_queue.shared.files.weights.fitting import fitting
from distill_queue.shared.files.weights.reading import GivenWeights, read_weights
from distill_queue.shared.files.weights_file import HEAD, Tensor, misfit, renaming_to
from distill_queue.shared.line import shortened
from distill_queue.shared.spec.classes import classes_beside, classes_in, outputs_of
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, TeacherSpec
from distill_queue.shared.spec.weights import AnyWeights, WeightsFile, weights_file

#: Characters of a path, at the most, as Linux has it.
LONGEST_NAME = 4_096

AnyTeacher = TypeVar("AnyTeacher", bound=TeacherSpec)


def with_labels(
    teacher: LabelTeacherSpec, dataset: DatasetSpec, soft_labels: SoftLabelsSpec, source: SpecFile
) -> LabelTeacherSpec:
    """Make the path of a teacher's label file absolute, and check what the file holds.

    Raises:
        InvalidSpec: the file is missing, or its labels are none of these views or, as far as is known here, classes.

    """
    place = ("teacher", "soft_labels")
    path = _existing(teacher.soft_labels, source, place)
    try:
        _require_labels_in(path, teacher.soft_labels, dataset, soft_labels)
    except (InvalidInput, OSError) as error:
        raise InvalidSpec(source.at(place, str(error))) from error
    return LabelTeacherSpec(soft_labels=str(path))


def with_checkpoint(teacher: AnyTeacher, dataset: DatasetSpec, source: SpecFile, place: Location) -> AnyTeacher:
    """The teacher with its checkpoint's path made absolute, if it has one, and the file looked at.

    Raises:
        InvalidSpec: the file is missing, or holds no weights of the model, as far as is known without torch.

    """
    if teacher.checkpoint is None:
        return teacher
    given = weights_file(teacher.checkpoint)
    path = _existing(given.file, source, (*place, "checkpoint"), folders=True)
    listed = _existing(teacher.classes, source, (*place, "classes")) if isinstance(teacher.classes, str) else None
    try:
        classes = _classes_of(teacher, path, given.file, listed)
        if classes and dataset.known_classes:
            outputs_of(dataset.known_classes, classes)
    except InvalidSpec as error:
        raise InvalidSpec(source.at((*place, "classes"), str(error))) from error
    checkpoint = str(path) if given.part is None else WeightsFile(file=str(path), part=given.part)
    found = teacher.model_copy(update={"checkpoint": checkpoint, "classes": classes})
    try:
        weights_of(found, dataset, given.file)
    except InvalidSpec as error:
        raise InvalidSpec(source.at((*place, "checkpoint"), str(error))) from error
    return found


def found_start(
    part: TeacherSpec | StudentSpec, dataset: DatasetSpec, source: SpecFile, place: Location
) -> AnyWeights | None:
    """The weights that a teacher or a student starts from, with an absolute path, and the file looked at.

    Raises:
        InvalidSpec: the file is missing, or does not fit the model, as far as is known without torch.

    """
    if part.weights is None:
        return None
    given = weights_file(part.weights)
    path = _existing(given.file, source, (*place, "weights"), folders=True)
    weights = WeightsFile(file=str(path), part=given.part)
    try:
        start_weights(part.model, weights, dataset, given.file)
    except InvalidSpec as error:
        raise InvalidSpec(source.at((*place, "weights"), str(error))) from error
    return weights


def start_weights(model: ModelFamily, weights: AnyWeights, dataset: DatasetSpec, called: str = "") -> GivenWeights:
    """The weights that a model starts from; names are as the file has them.

    Args:
        model: what starts from them.
        weights: with the absolute path of a file.
        dataset: what the model is to know, as far as that is known here.
        called: the file's name for messages, as the user wrote it; the path where nothing is given.

    Raises:
        InvalidSpec: they cannot be read, or are not those of the model as far as they are known without torch.

    """
    given, facts = weights_file(weights), DATASETS.get(dataset.name)
    classes = facts.classes if facts else None
    wanted = model.tensors(facts.shape if facts else None, classes)
    if wanted is None:
        return read_weights(Path(given.file), called, given.part)
    counts = {each for each, shape in wanted.items() if not shape}
    found = read_weights(
        Path(given.file), called, given.part, lambda tensors: not fitting(tensors, wanted, counts, classes).problem
    )
    if problem := fitting(found.tensors, wanted, counts, classes).problem:
        raise InvalidSpec(f"{found.called}: {problem}")
    return found


def weights_of(teacher: TeacherSpec, dataset: DatasetSpec, called: str = "") -> GivenWeights:
    """The weights of a teacher that has a checkpoint; names are as the file has them.

    Args:
        teacher: with the absolute path of its checkpoint.
        dataset: what it is to know, as far as that is known here.
        called: the checkpoint's name for messages, as the user wrote it; the path where nothing is given.

    Raises:
        InvalidSpec: they cannot be read, or are not those of the model as far as they are known without torch.

    """
    if teacher.checkpoint is None:
        raise InvalidSpec("a teacher without a checkpoint has no given weights")
    given, facts = weights_file(teacher.checkpoint), DATASETS.get(dataset.name)
    classes = len(class_names(teacher)) or (facts.classes if facts else None)
    wanted = teacher.model.tensors(facts.shape if facts else None, classes)
    if wanted is None:  # What the user's own and torchvision's models are made of, the worker knows.
        return read_weights(Path(given.file), called, given.part)
    counts = {each for each, shape in wanted.items() if not shape}

    def fits(tensors: Mapping[str, Tensor]) -> bool:
        return not misfit(tensors, wanted, counts) or renaming_to(tensors, wanted, counts) is not None

    weights = read_weights(Path(given.file), called, given.part, fits)
    tensors, renaming = weights.tensors, renaming_to(weights.tensors, wanted, counts)
    if renaming:
        return replace(weights, notes=(*weights.notes, renaming.words))
    head = tensors.get(HEAD)
    if classes and head and head.shape[:1] not in ((), (classes,)):
        of = f"'classes' has {classes:,} names" if teacher.classes else f"data set '{dataset.name}' has {classes:,}"
        hint = "" if teacher.classes else ": name the teacher's own under 'classes'"
        raise InvalidSpec(f"{weights.called} tells {head.shape[0]:,} classes apart, {of}{hint}")
    if problem := misfit(tensors, wanted, counts):
        raise InvalidSpec(f"{weights.called}: {problem}")
    return weights


def class_names(teacher: TeacherSpec) -> tuple[str, ...]:
    """The names of a given teacher's classes; none where they are the data's.

    Raises:
        InvalidSpec: they stand in a file that was not looked at: `PipelineSpec.with_files` does so.

    """
    if isinstance(teacher.classes, str):
        raise InvalidSpec(f"teacher.classes: {teacher.classes}: not read yet: 'PipelineSpec.with_files' does so")
    return teacher.classes or ()


def _classes_of(teacher: TeacherSpec, checkpoint: Path, called: str, listed: Path | None) -> tuple[str, ...] | None:
    """The names of a given teacher's classes: as the spec or the file that lists them says, or as a model's folder."""
    classes = teacher.classes
    if isinstance(classes, str):
        return classes_in(listed or Path(classes), classes)
    if classes is None and checkpoint.is_dir():
        return classes_beside(checkpoint, called.rstrip("/"))
    return classes


def _require_labels_in(path: Path, name: str, dataset: DatasetSpec, soft_labels: SoftLabelsSpec) -> None:
    """Refuse a file that holds no labels, or those of other views or, as far as is known here, other classes."""
    from distill_queue.shared.soft_labels.label_file import (
        LabelFile,  # With numpy: only a spec that names such a file needs it.
    )

    facts = DATASETS.get(dataset.name)
    with LabelFile.open(path, name) as file:
        if file.views != soft_labels.views:
            raise InvalidSpec(f"{name}: labels of {file.views} views, soft_labels.views is {soft_labels.views}")
        if facts and file.classes != facts.classes:
            raise InvalidSpec(
                f"{name}: labels of {file.classes} classes, data set '{dataset.name}' has {facts.classes}"
            )


def _existing(name: str, source: SpecFile, place: Location, *, folders: bool = False) -> Path:
    """The absolute path of a file, or of a folder if that is allowed, that a spec names relative to its own folder."""
    try:
        if len(name) > LONGEST_NAME:  # To resolve it takes time that grows with the square of its length.
            raise OSError(f"it has more than {LONGEST_NAME:,} characters")
        # What has no such name as `spec.yaml` is a pipe or `/dev/stdin`, and lies in no folder of the user's.
        folder = source.path.parent if source.path.suffix else Path()
        path = (folder / name).resolve()
        if path.is_file() or (folders and path.is_dir()):
            return path
        if path.is_dir():
            files = sorted(
                each.name for each in path.iterdir() if each.suffix in (".safetensors", ".npz", ".txt", ".json")
            )
            which = f"one of {', '.join(files[:5])}" if len(files) > 1 else "".join(files) or "it has no such"
            raise InvalidSpec(source.at(place, f"{name} is a folder: name the file in it ({which})"))
    except (ValueError, OSError, RuntimeError) as error:  # A NUL, a name too long, a loop of links.
        raise InvalidSpec(source.at(place, shortened(f"no path of a file: {error}", LONGEST_PATH))) from None
    raise InvalidSpec(source.at(place, f"{'a pipe or a device' if path.exists() else 'no such file'}: {shown(path)}"))
