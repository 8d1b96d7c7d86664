"""Given files: the weights and the labels that a spec names, looked at before anything is submitted."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from distill_queue.shared.catalog import DATASETS
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.given_file import LONGEST_PATH, shown
from distill_queue.shared.files.markup import Location
from distill_queue.shared.files.weights_file import HEAD, misfit, tensors_in
from distill_queue.shared.line import shortened
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.spec.teacher import LabelTeacherSpec, TeacherSpec

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
    checkpoint = _existing(teacher.checkpoint, source, (*place, "checkpoint"))
    try:
        _require_weights_in(checkpoint, teacher.checkpoint, teacher, dataset)
    except InvalidSpec as error:
        raise InvalidSpec(source.at((*place, "checkpoint"), str(error))) from error
    return teacher.model_copy(update={"checkpoint": str(checkpoint)})


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


def _require_weights_in(path: Path, name: str, teacher: TeacherSpec, dataset: DatasetSpec) -> None:
    """Refuse a file that holds no weights, or not those of the model as far as they are known without torch."""
    tensors, facts = tensors_in(path, name), DATASETS.get(dataset.name)
    wanted = teacher.model.tensors(facts.shape if facts else None, facts.classes if facts else None)
    if wanted is None:  # What the user's own and torchvision's models are made of, the worker knows.
        return
    head = tensors.get(HEAD)
    if facts and head and head.shape[:1] not in ((), (facts.classes,)):
        raise InvalidSpec(
            f"{name} tells {head.shape[0]:,} classes apart, data set '{dataset.name}' has {facts.classes}"
        )
    counts = {each for each, shape in wanted.items() if not shape}
    if problem := misfit(tensors, wanted, counts, name):
        raise InvalidSpec(f"{name}: {problem}")


def _existing(name: str, source: SpecFile, place: Location) -> Path:
    """The absolute path of a file that a spec names, relative to its own folder."""
    try:
        if len(name) > LONGEST_NAME:  # To resolve it takes time that grows with the square of its length.
            raise OSError(f"it has more than {LONGEST_NAME:,} characters")
        # What has no such name as `spec.yaml` is a pipe or `/dev/stdin`, and lies in no folder of the user's.
        folder = source.path.parent if source.path.suffix else Path()
        path = (folder / name).resolve()
        if path.is_file():
            return path
        if path.is_dir():
            files = sorted(each.name for each in path.iterdir() if each.suffix in (".safetensors", ".npz"))
            which = f"one of {', '.join(files[:5])}" if len(files) > 1 else "".join(files) or "it has no such"
            raise InvalidSpec(source.at(place, f"{name} is a folder: name the file in it ({which})"))
    except (ValueError, OSError, RuntimeError) as error:  # A NUL, a name too long, a loop of links.
        raise InvalidSpec(source.at(place, shortened(f"no path of a file: {error}", LONGEST_PATH))) from None
    raise InvalidSpec(source.at(place, f"{'a pipe or a device' if path.exists() else 'no such file'}: {shown(path)}"))
