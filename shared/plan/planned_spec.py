"""Planned specs: a plan's spec, found again in its stages, so that a plan of any age can be made once more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.exports import asked_by
from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    Distill,
    ImportSoftLabels,
    JoinTeachers,
    Labels,
    LoadTeacher,
    PrepareData,
    StudentRuns,
    Training,
    TrainTeacher,
    WriteReport,
)
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.plan.starts import START, alike
from distill_queue.shared.spec.export import ExportSpec
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.start import ContinuedStudent, EarlierModel, EarlierRun, Start
from distill_queue.shared.spec.student import AnyStudent, GridPoint, StudentGrid, StudentSpec


@dataclass(frozen=True, slots=True)
class PlannedSpec:
    """A spec whose plan has the same keys; it has no `fuse`, which is part of no key."""

    #: The spec as a file would have it, without values that are defaults.
    data: dict[str, Any]
    #: The files beside the spec that it names, and where the store has them.
    files: dict[str, ArtifactRef]

    @classmethod
    def of(cls, plan: Plan) -> Self:
        """The spec of a plan.

        Raises:
            InvalidSpec: an earlier version made the plan, of a spec that this one refuses.

        """
        files: dict[str, ArtifactRef] = {}
        data: dict[str, Any] = {"name": plan.name}
        for stage in plan.trunk:
            match stage.recipe:
                case PrepareData(dataset=dataset):
                    data["dataset"] = ingredients(dataset)
                case TrainTeacher() | LoadTeacher():
                    data["teacher"] = _teacher(stage, files)
                case JoinTeachers(weights=weights):
                    data["teachers"] = [
                        _teacher(teacher, files) | ({"weight": weight} if weight != 1.0 else {})
                        for teacher, weight in zip(plan.teachers, weights, strict=True)
                    ]
                case Labels() as labels:
                    if isinstance(labels, ImportSoftLabels):
                        data["teacher"] = {"soft_labels": _file("labels", ".npz", stage.inputs["file"], files)}
                    what = labels.model_dump(include={"dtype", "top_k", "views"})
                    data["soft_labels"] = what | {
                        "augmentation": ingredients(labels.augmentation),
                        "shards": plan.shards,
                    }
        for recipe in (stage.recipe for stage in plan.stages):
            if isinstance(recipe, JoinTeachers) and len(recipe.weights) > 1:  # One model has no average.
                data["average"] = recipe.average
            if isinstance(recipe, Distill) and recipe.online:
                data["soft_labels"] = {"mode": "online", "augmentation": ingredients(recipe.augmentation)}
        students = [_student(runs, plan, files) for runs in plan.students]
        data["students"] = students
        data["evaluation"] = {"control": any(name.endswith("/control") for name in plan.report.inputs)}
        data |= {"device": plan.device, "priority": plan.priority, "time_limits": plan.time_limits}
        data["accept"] = plan.accept
        if isinstance(plan.report.recipe, WriteReport) and plan.report.recipe.budget:
            data["budget"] = ingredients(plan.report.recipe.budget)
        try:
            spec = PipelineSpec.model_validate(data)
        except ValidationError as error:
            raise InvalidSpec(f"{plan.name}: its spec is not valid in this version: {error}") from error
        parts = {"name": spec.name, "dataset": ingredients(spec.dataset)} | ingredients(spec)
        return cls(parts | {"students": students}, files)

    @property
    def text(self) -> str:
        """The spec as YAML."""
        return SpecFile.written(self.data)

    @property
    def packages(self) -> tuple[str, ...]:
        """The user's own packages whose code the spec names."""
        return tuple(sorted(set(_packages(self.data))))


def _teacher(stage: Stage, files: dict[str, ArtifactRef]) -> dict[str, Any]:
    teacher: dict[str, Any] = ingredients(stage.recipe)
    if "checkpoint" in stage.inputs:
        teacher["checkpoint"] = _file("teacher", ".safetensors", stage.inputs["checkpoint"], files)
    return _without_start(teacher) | _weights(stage, files)


def _weights(stage: Stage, files: dict[str, ArtifactRef]) -> dict[str, Any]:
    """The weights that a training starts from, where a file has them, as a part of a spec has them."""
    if not isinstance(stage.recipe, Training) or stage.recipe.start is None or not stage.recipe.start.file:
        return {}
    return {"weights": {"file": _file("start", ".safetensors", stage.inputs[START], files)}}


def _without_start(recipe: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in recipe.items() if name != START}


def _file(name: str, suffix: str, ref: ArtifactRef, files: dict[str, ArtifactRef]) -> str:
    """Name a given file by its key, since two files may have one name, and enter it into `files`."""
    called = f"{name}-{ref.short_key}{suffix}"
    files[called] = ref
    return called


def _student(runs: StudentRuns, plan: Plan, files: dict[str, ArtifactRef]) -> dict[str, Any]:
    """A student, with a grid where it was chosen from one."""
    stages = {stage.ref: stage for stage in plan.stages}
    seed = runs.seeds[0]
    model = stages[stages[plan.report.inputs[runs.role(seed)]].inputs["model"]]
    if not isinstance(model.recipe, ChooseStudent):
        return ingredients(_candidate(runs, plan, model, files))
    labels = model.recipe.labels
    trained = (stages[model.inputs[f"{place}/{seed}"]] for place in range(len(labels)))
    candidates = [_candidate(runs, plan, stage, files) for stage in trained]
    points = tuple(GridPoint(label=label, student=each) for label, each in zip(labels, candidates, strict=True))
    given = StudentGrid(name=runs.name, points=points)
    short = _plain(_gathered(candidates))
    return short if _read(short) == given else ingredients(given)


def _candidate(runs: StudentRuns, plan: Plan, stage: Stage, files: dict[str, ArtifactRef]) -> StudentSpec:
    """A student with the values of a point of its grid, by the training of its first seed."""
    recipe = stage.recipe
    if not isinstance(recipe, Distill):
        raise TypeError(f"{stage.title}: no training of a student")
    return StudentSpec(
        name=runs.name,
        model=recipe.model,
        distillation=recipe.distillation,
        training=recipe.training,
        transfer=recipe.transfer,
        seeds=len(runs.seeds),
        export=_export(runs, plan),
        teacher=runs.teacher,
        continues=_continued(runs, plan),
        **_weights(stage, files),
    )


def _export(runs: StudentRuns, plan: Plan) -> ExportSpec | None:
    """What a student is exported to."""
    stages, begin = {stage.ref: stage for stage in plan.stages}, runs.export("")
    return asked_by(stages[ref].recipe for role, ref in plan.report.inputs.items() if role.startswith(begin))


def _continued(runs: StudentRuns, plan: Plan) -> ContinuedStudent | None:
    """The student of an earlier pipeline that a student goes on from, with the models of each seed."""
    found = [
        (seed, _earlier(plan, runs.role(seed), seed), _earlier(plan, runs.control(seed), seed)) for seed in runs.seeds
    ]
    models = tuple(
        EarlierRun(seed=seed, student=student[1], control=control and control[1])
        for seed, student, control in found
        if student
    )
    start = found[0][1] and found[0][1][0]
    return ContinuedStudent(pipeline=start.pipeline, student=start.student, runs=models) if start else None


def _earlier(plan: Plan, role: str, seed: int) -> tuple[Start, EarlierModel] | None:
    """What the training for a role of the report goes on from; of a grid's, all go on from the same model."""
    stages = {stage.ref: stage for stage in plan.stages}
    scored = stages[plan.report.inputs[role]].inputs["model"] if role in plan.report.inputs else None
    if scored is None:
        return None
    inputs = stages[scored].inputs.items() if isinstance(stages[scored].recipe, ChooseStudent) else ()
    refs = [ref for name, ref in inputs if name.endswith(f"/{seed}")] or [scored]
    key = same = ""
    first: Start | None = None
    for stage in map(stages.__getitem__, refs):
        if isinstance(stage.recipe, Training) and (start := stage.recipe.start) and not start.file:
            first, key = first or start, stage.inputs[START].key
            same = alike(stage.recipe, stage.inputs) if start.mode == "state" else same
    return (first, EarlierModel(key=key, alike=same)) if first else None


def _gathered(values: Sequence[Any]) -> Any:
    """Merge values into one, with grids where they differ; these may span other points, or in another order."""
    first = values[0]
    if all(value == first for value in values):
        return first
    if isinstance(first, SpecPart) and all(type(value) is type(first) for value in values):
        return {
            name: _gathered([getattr(value, name) for value in values])
            for name, field in type(first).model_fields.items()
            if name == "name" or any(getattr(value, name) != field.get_default() for value in values)
        }
    if isinstance(first, dict) and all(isinstance(value, dict) and value.keys() == first.keys() for value in values):
        return {name: _gathered([value[name] for value in values]) for name in first}
    return {"grid": [value for place, value in enumerate(values) if value not in values[:place]]}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else ingredients(value)


def _read(student: dict[str, Any]) -> StudentSpec | StudentGrid | None:
    """A student as a spec's reader takes it; None where it refuses it."""
    try:
        found: StudentSpec | StudentGrid = TypeAdapter(AnyStudent).validate_python(student)
    except ValidationError:
        return None
    return found


def _packages(value: Any) -> Iterator[str]:
    """The packages of all references `package.module:callable` in a spec."""
    for name, each in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(each, dict | list):
            yield from () if name == "options" else _packages(each)
        elif name in ("name", "loss") and is_reference(each):
            yield each.partition(":")[0].partition(".")[0]
