"""Exports: the stages that make files of a plan's students."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.plan.adaptation import adaptation_of
from distill_queue.shared.plan.recipes import Distill, Export, StageRecipe, StudentRuns, WritePageProgram
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
            stage = export_of(runs.role(runs.seeds[0]), name, asked, self._data.ref, model, seed, trainings)
            self.scores[runs.export(name)] = made.setdefault(stage.key, stage).ref

    def page_programs(self, teacher: Stage | None) -> Bundle:
        """The program of the teacher for the report's page, if a student is exported to a format that has one too."""
        recipes = [stage.recipe for stages in self._made.values() for stage in stages.values()]
        known = (FORMATS.get(recipe.format) for recipe in recipes if isinstance(recipe, Export))
        asked = any(each and each.has_page_program for each in known)
        if teacher is None or not asked:
            return ()
        title = "the teacher for the report's page"
        return (Stage.of(title, WritePageProgram(), dataset=self._data.ref, model=teacher.ref),)

    def of(self, model: Stage) -> Bundle:
        """The exports of a trained model, or of what was chosen."""
        return tuple(self._made.get(model.key, {}).values())


def export_of(
    role: str,
    name: str,
    asked: ExportSpec,
    data: ArtifactRef,
    model: Stage,
    seed: int | None = None,
    trainings: Sequence[Stage] = (),
) -> Stage:
    """The stage that exports a student's model in a format.

    Args:
        role: what titles call the model.
        name: the format's.
        asked: what the spec says of the export.
        data: the packed data set.
        model: the student's training, or what chooses it.
        seed: of a chosen student, the run.
        trainings: of a chosen student, what there is to choose from: the trainings with this seed, in their order.

    """
    # Of a format of the user's own, only a worker knows whether its numbers are integers.
    known = FORMATS.get(name)
    recipe = Export(
        format=name,
        revision=known.version if known else 1,
        version_of_own="1" if known else asked.version,
        tolerance=asked.tolerance if known is None or known.integers else None,
        seed=seed,
        licence=asked.licence,
    )
    inputs = {"dataset": data, "model": model.ref}
    if asked.quantise == "aware" and (known is None or known.integers):
        learned = [stage for stage in trainings or (model,) if isinstance(stage.recipe, Distill)]
        adaptations = tuple(adaptation_of(stage.recipe) for stage in learned if isinstance(stage.recipe, Distill))
        recipe = recipe.model_copy(update={"adaptations": adaptations})
        # All points of a grid learn from one source.
        inputs |= {role: ref for role, ref in learned[0].inputs.items() if role in TAUGHT_BY}
    return Stage.of(f"export {role} to {name}", recipe, **inputs)


def asked_by(recipes: Iterable[StageRecipe]) -> ExportSpec | None:
    """What a spec said of a student's export, from the recipes of the stages that it became; None where it has none."""
    exports = [recipe for recipe in recipes if isinstance(recipe, Export)]
    if not exports:
        return None
    stated: dict[str, Any] = {"formats": tuple(each.format for each in exports), "licence": exports[0].licence}
    stated |= {"tolerance": each.tolerance for each in exports if each.tolerance is not None}  # noqa: B035 (all have one)
    stated |= {"quantise": "aware"} if any(each.adaptations for each in exports) else {}
    version = next((each.version_of_own for each in exports if is_reference(each.format)), "1")
    return ExportSpec(**stated, version=version)
