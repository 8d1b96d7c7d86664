"""Candidates: a student's trainings, the evaluations that score them, and what chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from distill_queue.shared.plan.course import Branch
from distill_queue.shared.plan.exports import Exports
from distill_queue.shared.plan.lessons import Lessons
from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    Distill,
    Evaluate,
    StudentRuns,
    TrainControl,
    Training,
    counting_of,
    models_of,
)
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage
from distill_queue.shared.plan.starts import Starts
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.export import ExportSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.student import StudentGrid, StudentSpec


@dataclass(frozen=True, slots=True)
class Candidates:
    """A student's trainings: of each point of its grid, for each seed; one point where it has no grid."""

    runs: StudentRuns
    labels: tuple[str, ...]
    #: What the student's own scores stand beside; None where only its teacher's labels are given.
    teacher: Stage | None
    #: By label and seed; the controls are missing where the spec wants none.
    students: dict[tuple[str, int], Stage]
    controls: dict[tuple[str, int], Stage]
    #: What its first seed's model is exported to, if it is.
    export: ExportSpec | None

    @classmethod
    def of(
        cls, student: StudentSpec | StudentGrid, spec: PipelineSpec, data: Stage, lessons: Lessons, starts: Starts
    ) -> Self:
        """All trainings of a student, and of its controls where the spec wants some."""
        if isinstance(student, StudentGrid):
            points = {point.label: point.student for point in student.points}
        else:
            points = {"": student}
        first = next(iter(points.values()))
        seeds = tuple(range(first.training.seed, first.training.seed + first.seeds))
        runs = StudentRuns(name=student.name, seeds=seeds, teacher=student.teacher)
        students, controls = {}, {}
        for label, point in points.items():
            where = f" ({label})" if label else ""
            for seed in seeds:
                training = point.training.model_copy(update={"seed": seed})
                distill = Distill(
                    model=point.model,
                    distillation=point.distillation,
                    training=training,
                    transfer=point.transfer,
                    online=spec.soft_labels.online,
                    augmentation=spec.soft_labels.augmentation if spec.soft_labels.online else AugmentationSpec(),
                )
                inputs = {"dataset": data.ref, **lessons.source}
                students[label, seed] = starts.stage(f"distill {runs.role(seed)}{where}", distill, point, inputs)
                if spec.evaluation.control:
                    alone = TrainControl(
                        model=point.model,
                        training=training,
                        views=spec.soft_labels.seen_views,
                        augmentation=spec.soft_labels.augmentation,
                        transfer=point.transfer,
                    )
                    title = f"train {runs.control(seed)}{where}"
                    controls[label, seed] = starts.stage(title, alone, point, {"dataset": data.ref})
        return cls(runs, tuple(points), lessons.teacher, students, controls, student.export)

    @property
    def of_one_point(self) -> tuple[Stage, ...]:
        """The student's trainings with each seed, with the first point of its grid."""
        return tuple(self.students[self.labels[0], seed] for seed in self.runs.seeds)

    def grade(self, graded: Graded) -> None:
        """Enter what scores the model of each seed: students beside their teacher, controls beside the pipeline's."""
        for name, role, trained, teacher in (
            (self.runs.name, self.runs.role, self.students, self.teacher),
            (f"{self.runs.name}/control", self.runs.control, self.controls, graded.teacher),
        ):
            # Points that differ only in their distillation share one control: then there is nothing to choose.
            different: dict[str, str] = {}
            for label in self.labels if trained else ():
                different.setdefault(trained[label, self.runs.seeds[0]].key, label)
            labels = tuple(different.values())
            if len(labels) > 1:
                graded.add_choice(name, role, labels, self.runs.seeds, trained, teacher)
            elif labels:
                for seed in self.runs.seeds:
                    graded.add(role(seed), trained[labels[0], seed], teacher)
        if self.export:
            first, choice = self.runs.seeds[0], graded.choice_of(self.runs.name)
            model = choice or self.students[self.labels[0], first]
            trainings = self._chosen_from(choice, first) if choice else ()
            graded.exports.add(self.runs, self.export, model, first if choice else None, trainings)

    def _chosen_from(self, choice: Stage, seed: int) -> tuple[Stage, ...]:
        """The trainings with a seed that a choice has, in its order."""
        by_ref = {stage.ref: stage for stage in self.students.values()}
        places = sum(role.endswith(f"/{seed}") for role in choice.inputs)
        return tuple(by_ref[choice.inputs[f"{place}/{seed}"]] for place in range(places))


class Graded:
    """The evaluations that a report needs, and what chooses their models."""

    def __init__(self, data: Stage, teacher: Stage | None) -> None:
        self.data, self.teacher = data, teacher
        #: Evaluations of models that are not chosen from a grid, by the model's key.
        self.evaluations: dict[str, Stage] = {}
        self.choices: dict[str, Stage] = {}
        #: Evaluations of chosen models, by their own keys.
        self.of_chosen: dict[str, Stage] = {}
        #: The report's inputs, by role.
        self.scores: dict[str, ArtifactRef] = {}
        self.exports = Exports(data)

    def add(self, role: str, model: Stage, teacher: Stage | None) -> None:
        """Have a model scored for a role, beside a teacher."""
        inputs = {"model": model.ref, **self._beside(teacher)}
        recipe = Evaluate(counting=counting_of(models_of(model.recipe)))
        evaluation = self.evaluations.setdefault(model.key, Stage.of(f"evaluate {role}", recipe, **inputs))
        self.scores[role] = evaluation.ref

    def add_choice(
        self,
        name: str,
        role: Callable[[int], str],
        labels: tuple[str, ...],
        seeds: tuple[int, ...],
        trained: dict[tuple[str, int], Stage],
        teacher: Stage | None,
    ) -> None:
        """Have the best of some models chosen, and scored for a role a seed, beside a teacher."""
        refs = {f"{place}/{seed}": trained[label, seed].ref for place, label in enumerate(labels) for seed in seeds}
        recipes = (trained[label, seeds[0]].recipe for label in labels)
        models = tuple(recipe.model for recipe in recipes if isinstance(recipe, Training))
        recipe = ChooseStudent(labels=_what_differs(labels), models=models, seeds=seeds)
        choice = Stage.of(f"choose {name}", recipe, **refs)
        choice = self.choices.setdefault(choice.key, choice)
        self.scores[f"{name}/choice"] = choice.ref
        for seed in seeds:
            inputs = {"model": choice.ref, **self._beside(teacher)}
            chosen = Evaluate(seed=seed, counting=counting_of(models))
            evaluation = Stage.of(f"evaluate {role(seed)}", chosen, **inputs)
            self.scores[role(seed)] = self.of_chosen.setdefault(evaluation.key, evaluation).ref

    def branch(self, bundle: Bundle) -> Branch:
        """Trainings, and the evaluations and exports of those that are not chosen from."""
        evaluations = tuple(self.evaluations[model.key] for model in bundle if model.key in self.evaluations)
        exports = tuple(export for model in bundle for export in self.exports.of(model))
        return tuple(each for each in (bundle, evaluations, exports) if each)

    @property
    def exports_of_chosen(self) -> list[Stage]:
        """The exports of models that were chosen from grids."""
        return [export for choice in self.choices.values() for export in self.exports.of(choice)]

    def choice_of(self, name: str) -> Stage | None:
        """What chooses the model of a student, where it was chosen from a grid."""
        ref = self.scores.get(f"{name}/choice")
        return self.choices[ref.key] if ref else None

    def _beside(self, teacher: Stage | None) -> dict[str, ArtifactRef]:
        """What a model is scored with."""
        return {"dataset": self.data.ref} | ({"teacher": teacher.ref} if teacher else {})


def _what_differs(labels: tuple[str, ...]) -> tuple[str, ...]:
    """Labels without the parts that all of them have."""
    parts = [label.split(", ") for label in labels]
    return tuple(", ".join(part for part in each if any(part not in other for other in parts)) for each in parts)
