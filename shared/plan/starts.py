"""Starts: what trainings begin with, where a spec gives weights or goes on with a student of an earlier pipeline."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import shortened
from distill_queue.shared.plan.ingredients import ingredients, revisions
from distill_queue.shared.plan.recipes import Distill, TrainControl, Training
from distill_queue.shared.plan.stage import ArtifactRef, Stage, stage_key, weights_ref
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.given_files import start_weights
from distill_queue.shared.spec.start import ContinuedStudent, EarlierModel, Start
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.teacher import TeacherSpec
from distill_queue.shared.spec.weights import weights_file

#: The role of what a training begins with among its inputs.
START = "start"
#: The file of a training's end, beside its weights, where the spec says to keep it.
STATE = "state.safetensors"
#: Characters of a file's name in a recipe or a title.
LONGEST_FILE_NAME = 60


class Starts:
    """The trainings of a spec, each with what it begins with; a file is read once."""

    def __init__(self, dataset: DatasetSpec) -> None:
        self._dataset = dataset
        self._files: dict[str, tuple[Start, ArtifactRef]] = {}

    def stage(
        self, title: str, recipe: Training, part: TeacherSpec | StudentSpec, inputs: Mapping[str, ArtifactRef]
    ) -> Stage:
        """The training of a teacher, or of a student or its control with one seed.

        Raises:
            InvalidSpec: the file of weights cannot be read, or the student that is continued was not looked up.

        """
        found = self._found(recipe, part, inputs)
        if found is None:
            return Stage.of(title, recipe, **inputs)
        start, ref = found
        return Stage.of(title, recipe.model_copy(update={"start": start}), **inputs, **{START: ref})

    def _found(
        self, recipe: Training, part: TeacherSpec | StudentSpec, inputs: Mapping[str, ArtifactRef]
    ) -> tuple[Start, ArtifactRef] | None:
        if part.weights is not None:
            given = weights_file(part.weights)
            asked = f"{part.model.model_dump_json()} {given.model_dump_json()}"
            if asked not in self._files:
                weights = start_weights(part.model, given, self._dataset)
                taken = f" ({', '.join(weights.notes)})" if weights.notes else ""
                start = Start(mode="weights", file=f"{file_name(given.file)}{taken}")
                self._files[asked] = start, weights_ref(weights)
            return self._files[asked]
        if isinstance(part, StudentSpec) and part.continues and isinstance(recipe, Distill | TrainControl):
            return _continued(part.continues, recipe, inputs)
        return None


def file_name(path: str) -> str:
    """The name of a given file, shortened for a recipe or a stage's title; a key has only the file's content."""
    return shortened(Path(path).name, LONGEST_FILE_NAME)


def new_schedules(stages: Iterable[Stage]) -> Iterator[str]:
    """A sentence for each student whose earlier training does not simply go on, once for all of its seeds."""
    starts = [stage.recipe.start for stage in stages if isinstance(stage.recipe, Distill | TrainControl)]
    whys = {(each.student, each.pipeline, each.why) for each in starts if each and each.why}
    for student, pipeline, why in sorted(whys):
        yield f"{student} of {pipeline}: a new schedule starts from its weights: {why}"


def alike(recipe: Training, inputs: Mapping[str, ArtifactRef]) -> str:
    """A hash that two trainings have in common which differ in nothing but their epochs and what they begin with."""
    training = recipe.training.model_copy(update={"epochs": 1, "keep_state": False})
    same = recipe.model_copy(update={"training": training, "start": None})
    others = {role: ref for role, ref in inputs.items() if role != START}
    return stage_key(recipe.kind, ingredients(same), others, revisions(same))


def why_not_going_on(model: EarlierModel, recipe: Distill | TrainControl, inputs: Mapping[str, ArtifactRef]) -> str:
    """Why a training cannot go on to what training at once would have given; empty if it can."""
    training = recipe.training
    if not model.alike:
        return "its state was not kept: keep_state: true keeps it"
    if training.schedule not in ("constant", "step"):
        return f"the schedule {training.schedule} depends on how many epochs there are"
    if training.warmup:
        return "its warmup depends on how many epochs there are"
    if isinstance(recipe, Distill) and recipe.distillation.changes:
        return "temperature or alpha depend on how many epochs there are"
    if model.alike != alike(recipe, inputs):
        return "it was trained otherwise than now, or on other data or soft labels"
    return ""


def _continued(
    continued: ContinuedStudent, recipe: Distill | TrainControl, inputs: Mapping[str, ArtifactRef]
) -> tuple[Start, ArtifactRef]:
    run, seed = continued.run(recipe.training.seed), recipe.training.seed
    model = None if run is None else run.student if isinstance(recipe, Distill) else run.control
    if model is None:
        raise InvalidSpec(
            f"'{continued.student}' of {continued.pipeline} was not looked up with seed {seed}: "
            "'distill submit' and PipelineClient do so"
        )
    why = why_not_going_on(model, recipe, inputs)
    start = Start(mode="weights" if why else "state", pipeline=continued.pipeline, student=continued.student, why=why)
    return start, ArtifactRef(kind=recipe.kind, key=model.key)
