"""How a stage is run: its inputs are opened, its function writes into a draft, and the draft is committed."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import StageFailed, store_errors
from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    Evaluate,
    ImportSoftLabels,
    JoinTeachers,
    Labels,
    LoadTeacher,
    PrepareData,
    SoftLabelling,
    Training,
    WriteReport,
    models_of,
)
from distill_queue.shared.plan.stage import Bundle, Stage, bundle_ref
from distill_queue.shared.results.history import HISTORY
from distill_queue.shared.results.records import Record
from distill_queue.shared.store.folder_store import Artifact, ArtifactStore
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.models import build as models
from distill_queue.worker.stages import soft_labels as labelling
from distill_queue.worker.stages.choose import choose
from distill_queue.worker.stages.context import WEIGHTS, StageContext
from distill_queue.worker.stages.crew import Alone, Crew
from distill_queue.worker.stages.evaluate import evaluate
from distill_queue.worker.stages.import_soft_labels import import_labels
from distill_queue.worker.stages.join_teachers import join_teachers
from distill_queue.worker.stages.load_teacher import load_teacher
from distill_queue.worker.stages.prepare_data import prepare_data
from distill_queue.worker.stages.report import write_report
from distill_queue.worker.stages.train import to_train, train_models
from distill_queue.worker.training.checkpoints import Checkpoints

OUT_OF_MEMORY = "it needs a machine with more, or one with less other work"


@dataclass(frozen=True, slots=True)
class StageRunner:
    """Where stages are done: the store, the device, who is told, and who may refuse."""

    store: ArtifactStore
    runtime: Runtime
    report: Report
    #: Raises `StageStopped` where a commit or a checkpoint must not be written.
    confirm: Callable[[], None] = lambda: None
    #: Told of every checkpoint.
    saved: Callable[[], None] = lambda: None
    checkpoint_seconds: float = 30.0
    #: Who may help with soft labels, and how many are to.
    crew: Crew = field(default_factory=Alone)
    shards: Literal["auto"] | int = "auto"

    def run(self, stage: Stage) -> Artifact:
        """Do a stage and commit its result.

        Raises:
            StageStopped: `report` or `confirm` raised it.
            InvalidInput: the stage asks for something that cannot be.
            Unavailable: the store or a download does not work for now.
            StageFailed: the stage cannot have a result.

        """
        if isinstance(stage.recipe, Training):
            outcome = self.train((stage,), (stage,))[stage.key]
            if isinstance(outcome, StageFailed):
                raise outcome
            return outcome
        with store_errors(self.store.root):
            return self._label(stage) if isinstance(stage.recipe, Labels) else self._make(stage)

    def train(self, bundle: Bundle, missing: Bundle) -> dict[str, Artifact | StageFailed]:
        """Train the models of a bundle that are missing, side by side, and commit each.

        Args:
            bundle: stages whose models have one shape, as one message brought them.
            missing: those of them that have no artifact.

        Returns:
            The artifact of each stage that was trained, by key, or why it cannot have one.

        Raises:
            StageStopped, InvalidInput, Unavailable: as for `run`.

        """
        with store_errors(self.store.root):
            return self._train(bundle, missing)

    def help(self, stage: Stage) -> int:
        """Help another worker with a stage's soft labels; return how many blocks were done here.

        Raises:
            StageStopped, InvalidInput, Unavailable: as for `run`.

        """
        if not isinstance(stage.recipe, SoftLabelling) or stage.ref in self.store:
            return 0
        with store_errors(self.store.root):
            return self._help(stage.recipe, stage)

    def _make(self, stage: Stage) -> Artifact:
        """Do a stage that leaves nothing for a later attempt to go on with."""
        started = time.monotonic()
        inputs = {role: self.store.open(ref) for role, ref in stage.inputs.items()}
        own = plugins.called(_whose_models(inputs), by_line=True)
        with self.store.draft(stage.ref) as folder, own, memory.running_out_fails(OUT_OF_MEMORY):
            record = _story(stage)(StageContext(inputs, folder, self.runtime, self.report))
            return self._commit(stage, folder, record, time.monotonic() - started)

    def _train(self, bundle: Bundle, missing: Bundle) -> dict[str, Artifact | StageFailed]:
        started = time.monotonic()
        ref = bundle_ref(bundle)
        device = self.runtime.device.type
        checkpoints = Checkpoints(
            self.store.partial(ref),
            self.checkpoint_seconds,
            device,
            self.confirm,
            self.saved,
            objects=self.store.unfinished(ref),
        )
        stages = to_train(bundle, missing, checkpoints)
        opened = {role: self.store.open(ref) for stage in stages for role, ref in stage.inputs.items()}
        context = StageContext(opened, self.store.partial(ref), self.runtime, self.report)
        with memory.running_out_fails(OUT_OF_MEMORY):
            trained = train_models(stages, context, checkpoints)
        seconds = (time.monotonic() - started) / len(stages)
        outcomes: dict[str, Artifact | StageFailed] = {}
        for stage, (model, outcome) in zip(stages, trained, strict=True):
            if isinstance(outcome, StageFailed):
                outcomes[stage.key] = outcome
                continue
            with self.store.draft(stage.ref) as folder:
                models.save(model, folder / WEIGHTS)
                outcome.history.write(folder / HISTORY)
                outcomes[stage.key] = self._commit(stage, folder, outcome.record, seconds)
        return outcomes

    def _help(self, recipe: SoftLabelling, stage: Stage) -> int:
        context = self._label_desk(stage)
        own = plugins.called(_whose_models(context.inputs), by_line=True)
        with ExitStack() as drafts, own, memory.running_out_fails(OUT_OF_MEMORY):
            if context.objects:  # Blocks go there one by one; the folder is this helper's own.
                context = replace(context, folder=drafts.enter_context(self.store.draft(stage.ref)))
            return labelling.help_to_label(recipe, context, self.crew)

    def _label(self, stage: Stage) -> Artifact:
        """Compute or import soft labels: block by block into a folder that a later attempt goes on with."""
        started, context = time.monotonic(), self._label_desk(stage)
        own = plugins.called(_whose_models(context.inputs), by_line=True)
        with own, memory.running_out_fails(OUT_OF_MEMORY):
            if isinstance(stage.recipe, SoftLabelling):
                folder, record = labelling.label_softly(stage.recipe, context, self.crew, self.shards)
            elif isinstance(stage.recipe, ImportSoftLabels):
                folder, record = import_labels(stage.recipe, context)
        return self._commit(stage, folder, record, time.monotonic() - started)

    def _label_desk(self, stage: Stage) -> StageContext:
        inputs = {role: self.store.open(ref) for role, ref in stage.inputs.items()}
        folder, objects = self.store.partial(stage.ref) / "soft_labels", self.store.unfinished(stage.ref)
        return StageContext(inputs, folder, self.runtime, self.report, objects and objects.below("soft_labels"))

    def _commit(self, stage: Stage, folder: Path, record: Record, seconds: float) -> Artifact:
        self.confirm()
        provenance = self.runtime.provenance
        return self.store.commit(stage.ref, folder, stage=stage, record=record, provenance=provenance, seconds=seconds)


def _story(stage: Stage) -> Callable[[StageContext], Record]:
    match stage.recipe:
        case PrepareData() as recipe:
            return partial(prepare_data, recipe)
        case LoadTeacher() as recipe:
            return partial(load_teacher, recipe)
        case JoinTeachers() as recipe:
            return partial(join_teachers, recipe)
        case ChooseStudent() as recipe:
            return partial(choose, recipe)
        case Evaluate() as recipe:
            return partial(evaluate, recipe)
        case WriteReport() as recipe:
            return partial(write_report, recipe)
        case _:
            raise StageFailed(f"{stage.kind} is done elsewhere")


def _whose_models(inputs: dict[str, Artifact]) -> str:
    """Whose code runs where the models among some inputs do: the user's own, if there is any."""
    stages = [artifact.manifest.stage for artifact in inputs.values()]
    names = {model.name for stage in stages if stage for model in models_of(stage.recipe)}
    return " or ".join(sorted(filter(is_reference, names)))
