"""Exports: the stages that make files of a plan's students."""

from __future__ import annotations

from collections.abc import Sequence

from distill_queue.shared.plan.adaptation import adaptation_of
from distill_queue.shared.plan.recipes import Distill, Export, StudentRuns
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage
from distill_queue.shared.spec.export import FORMATS, ExportSpec

#: The inputs of a student's training that it learns from: one of these.
TAUGHT_BY = ("soft_labels", "teacher")


class Exports:
    """The exports of a plan's students, each of the first seed's model."""

    def __init__(self, data: Stage) -> None:
        self._data = data
        #: By the key of the model, or of what chooses it: the exports by their own keys.
        self._made: dict[str, dict[str, Stage]] = {}
        #: The report's inputs, by role.
        self.scores: dict[str, ArtifactRef] = {}

    def add(
        self,
        runs: StudentRuns,
        asked: ExportSpec,
        model: Stage,
        seed: int | None = None,
        trainings: Sequence[Stage] = (),
    ) -> None:
        """Have a student's model exported; of one that is chosen from trainings with a seed, that of the seed."""
        made = self._made.setdefault(model.key, {})
        for name in asked.formats:
            stage = export_of(runs, name, asked, self._data, model, seed, trainings)
            self.scores[runs.export(name)] = made.setdefault(stage.key, stage).ref

    def of(self, model: Stage) -> Bundle:
        """The exports of a trained model, or of what was chosen."""
        return tuple(self._made.get(model.key, {}).values())


def export_of(
    runs: StudentRuns,
    name: str,
    asked: ExportSpec,
    data: Stage,
    model: Stage,
    seed: int | None = None,
    trainings: Sequence[Stage] = (),
) -> Stage:
    """The stage that exports a student's model in a format.

    Args:
        runs: the student's.
        name: the format's.
        asked: what the spec says of the export.
        data: the stage of the data set.
        model: the student's training, or what chooses it.
        seed: of a chosen student, the run.
        trainings: of a chosen student, what there is to choose from: the trainings with this seed, in their order.

    """
    export_format = FORMATS[name]
    recipe = Export(
        format=name,
        revision=export_format.version,
        tolerance=asked.tolerance if export_format.integers else None,
        seed=seed,
    )
    title, inputs = f"export {runs.role(runs.seeds[0])} to {name}", {"dataset": data.ref, "model": model.ref}
    if asked.quantise == "aware" and export_format.integers:
        learned = [stage for stage in trainings or (model,) if isinstance(stage.recipe, Distill)]
        adaptations = tuple(adaptation_of(stage.recipe) for stage in learned if isinstance(stage.recipe, Distill))
        recipe = recipe.model_copy(update={"adaptations": adaptations})
        # All points of a grid learn from one source.
        inputs |= {role: ref for role, ref in learned[0].inputs.items() if role in TAUGHT_BY}
    return Stage.of(title, recipe, **inputs)
