"""Exports: the stages that make files of a plan's students."""

from __future__ import annotations

from distill_queue.shared.plan.recipes import Export, StudentRuns, WritePageProgram
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage
from distill_queue.shared.spec.export import FORMATS, ExportSpec


class Exports:
    """The exports of a plan's students, each of the first seed's model."""

    def __init__(self, data: Stage) -> None:
        self._data = data
        #: By the key of the model, or of what chooses it: the exports by their own keys.
        self._made: dict[str, dict[str, Stage]] = {}
        #: The report's inputs, by role.
        self.scores: dict[str, ArtifactRef] = {}

    def add(self, runs: StudentRuns, asked: ExportSpec, model: Stage, seed: int | None = None) -> None:
        """Have a student's model exported; of one that is chosen, that of a seed."""
        made = self._made.setdefault(model.key, {})
        for name in asked.formats:
            stage = export_of(runs, name, asked, self._data, model, seed)
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
    runs: StudentRuns, name: str, asked: ExportSpec, data: Stage, model: Stage, seed: int | None = None
) -> Stage:
    """The stage that exports a student's model in a format."""
    # Of a format of the user's own, only a worker knows whether its numbers are integers.
    known = FORMATS.get(name)
    recipe = Export(
        format=name,
        revision=known.version if known else 1,
        version_of_own="1" if known else asked.version,
        tolerance=asked.tolerance if known is None or known.integers else None,
        seed=seed,
    )
    title = f"export {runs.role(runs.seeds[0])} to {name}"
    return Stage.of(title, recipe, dataset=data.ref, model=model.ref)
