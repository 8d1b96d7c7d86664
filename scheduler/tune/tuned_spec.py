"""Tuned specs: the spec of a study's file with one student, its space, and the spec with the best values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Self

from pydantic import ValidationError

from distill_queue.scheduler.tune.space import Space
from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidSettings, InvalidSpec
from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.short_names import with_references
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.text import plain_line

#: The share of the training samples that is held out where the spec holds out none.
VALIDATION = 0.1


@dataclass(frozen=True, slots=True)
class TunedSpec:
    """What a study is of."""

    #: The spec with the tuned student only, with the values that the study begins with.
    spec: PipelineSpec
    space: Space
    #: Whether the spec holds out no samples, and `VALIDATION` is put in.
    is_validation_ours: bool
    #: Whether the spec itself says which content its data have.
    is_content_given: bool = False

    @classmethod
    def of(
        cls, source: SpecFile, student: str | None, *, holds_out: Callable[[PipelineSpec], bool | None] | None = None
    ) -> Self:
        """Read a file whose student may have ranges.

        Args:
            source: the file.
            student: the name of the student to tune; not needed where there is one.
            holds_out: whether a spec's data have held-out samples of their own; None where only a worker can tell.

        Raises:
            InvalidSpec: the file cannot be used; the message says where.
            InvalidSettings: it has no such student, or several and none is named.

        """
        source = with_references(source)
        space = Space.of(source, place := _place_of(source, student))
        if "teacher" in space.student:
            path = ("students", place, "teacher")
            raise InvalidSpec(source.at(path, "'distill tune' takes a student of the pipeline's own teacher only"))
        data = deepcopy(source.data) | {"students": [space.student]}
        dataset = data.setdefault("dataset", {"name": PipelineSpec.model_fields["dataset"].default.name})
        ours = isinstance(dataset, dict) and not dataset.get("validation")
        teacher = data.get("teacher")
        if ours and isinstance(teacher, dict) and "soft_labels" in teacher:
            given = (
                "given soft labels are of all training samples: set dataset.validation, and give labels of the others"
            )
            raise InvalidSpec(source.at(("teacher", "soft_labels"), given))
        if ours:
            dataset["validation"] = VALIDATION
        spec = PipelineSpec.from_file(replace(source, data=data))
        own = holds_out(spec) if ours and holds_out else False
        if own or own is None:
            if own:
                ours, dataset["validation"] = False, 0.0
            else:
                dataset["own_validation"] = "take"
            spec = PipelineSpec.from_file(replace(source, data=data))
        return cls(spec, space, ours, "content" in source.data.get("dataset", {}))

    @property
    def student(self) -> StudentSpec:
        """The student with the values that the study begins with."""
        student = self.spec.students[0]
        if not isinstance(student, StudentSpec):
            raise TypeError("a tuned student has no grid")
        return student

    @property
    def unless(self) -> str:
        """Where the study does not hold out its own share, as the end of a sentence; empty where it always does."""
        return "" if self.spec.dataset.refuses_own_validation else ", unless the data bring some of their own"

    def study_id(self, seed: int) -> str:
        """The name of the study's page, the same for the same spec and seed."""
        dimensions = [repr(each) for each in self.space.dimensions]
        text = json.dumps([ingredients(self.spec), dimensions, seed], sort_keys=True, default=str)
        return f"{self.spec.name}-tune-{hashlib.sha256(text.encode()).hexdigest()[:8]}"

    def with_student(self, student: StudentSpec) -> PipelineSpec:
        """The spec with a candidate in the place of the student."""
        return self.spec.model_copy(update={"students": (student,)})


def yaml_of(tuned: TunedSpec, student: StudentSpec, paths: dict[str, str], comments: list[str]) -> str:
    """A candidate's spec as YAML that 'distill run' takes, below some lines of comment.

    It holds out what the study's file holds out, unless it is not valid without the study's own share.

    Args:
        tuned: what the study is of.
        student: the candidate.
        paths: of the data, by the names of their fields, as they are found from the folder of the YAML.
        comments: a line each.

    """
    spec = tuned.with_student(student)
    dataset = ingredients(spec.dataset) | paths
    if not tuned.is_content_given:
        dataset.pop("content", None)
    data: dict[str, Any] = {"name": spec.name, "dataset": dataset} | ingredients(spec) | {"dataset": dataset}
    if tuned.is_validation_ours:
        own = {name: value for name, value in dataset.items() if name not in ("validation", "own_validation")}
        if _is_valid(without := data | {"dataset": own}):
            data = without
            share = f"{VALIDATION:.0%} of the training samples{tuned.unless}"
            comments = [*comments, f"The study held out {share}; below none are, as in its own file."]
    return "".join(f"# {plain_line(line)}\n" for line in comments) + SpecFile.written(data)


def _is_valid(data: dict[str, Any]) -> bool:
    try:
        PipelineSpec.model_validate(data)
    except ValidationError:
        return False
    return True


def _place_of(source: SpecFile, name: str | None) -> int:
    """The index of a student by its name; of the only one, if none is named."""
    students = source.data.get("students")
    if not (isinstance(students, list) and students):
        raise InvalidSpec(source.at(("students",), "at least one is needed"))
    names = [each.get("name") if isinstance(each, dict) else None for each in students]
    if name is None:
        if len(names) > 1:
            known = ", ".join(str(each) for each in names)
            raise InvalidSettings(f"--student: say which of the {len(names)} students is tuned: {known}")
        return 0
    if name not in names:
        texts = [each for each in names if isinstance(each, str)]
        raise InvalidSettings(f"--student: no student is named '{name}'{did_you_mean(name, texts)}")
    return names.index(name)
