"""How a stage is run: its inputs are opened, its function writes into a draft, and the draft is committed.

The function is `run` of the module in this folder that has the kind's name. It takes the recipe and a `StageContext`,
writes the artifact's files into the context's folder, and returns the record of them. Where the recipe names an
`unfinished_folder`, that is the context's folder, and `run` returns the folder of the artifact too. Trainings differ:
`train` makes a bundle of them at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Literal

import torch

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import StageFailed, store_errors
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.plan.recipes import RECIPES, SoftLabelling, Training, models_of
from distill_queue.shared.plan.stage import ArtifactRef, Bundle, Stage, bundle_ref
from distill_queue.shared.plan.starts import START, STATE
from distill_queue.shared.results.history import HISTORY
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker import models
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.last_value import LastValue
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.stages.context import WEIGHTS, StageContext
from distill_queue.worker.stages.crew import Alone, Crew
from distill_queue.worker.stages.soft_labels import help_to_label
from distill_queue.worker.stages.train import to_train, train_models
from distill_queue.worker.training.checkpoints import Checkpoints

#: The module of each kind of stage but trainings: loaded with this one, before a stage holds a lease.
_MODULES = {
    kind: import_module(f"{__package__}.{kind}") for kind, recipe in RECIPES.items() if not issubclass(recipe, Training)
}
OUT_OF_MEMORY = "it needs a machine with more, or one with less other work"


@dataclass(frozen=True, slots=True)
class StageRunner:
    """Runs stages: opens their inputs in the store, calls their functions on a device, and commits what they made."""

    store: ArtifactStore
    runtime: Runtime
    report: Report
    #: Raises `StageStopped` where a commit or a checkpoint must not be written.
    confirm: Callable[[], None] = lambda: None
    #: Called after each checkpoint.
    saved: Callable[[], None] = lambda: None
    checkpoint_seconds: float = 30.0
    #: The workers that may help with soft labels, and how many of them are wanted.
    crew: Crew = field(default_factory=Alone)
    shards: Literal["auto"] | int = "auto"
    #: A teacher's logits on the test set: passed from one runner to the next, so that the next evaluation finds them.
    teacher_on_test: LastValue[torch.Tensor] = field(default_factory=LastValue)
    #: All training samples, normalised: passed on likewise, to the next training on them.
    prepared: LastValue[torch.Tensor] = field(default_factory=LastValue)

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
            unfinished = stage.recipe.unfinished_folder
            return self._make(stage) if unfinished is None else self._go_on(stage, unfinished)

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

    def context(
        self, inputs: dict[str, Artifact], folder: Path, bucket: Bucket | None = None, title: str = ""
    ) -> StageContext:
        """Return what a stage works with that has these inputs and writes into a folder."""
        return StageContext(
            inputs,
            folder,
            self.runtime,
            self.report,
            bucket,
            self.crew,
            self.shards,
            self.teacher_on_test,
            self.prepared,
            title,
        )

    def opened(self, stage: Stage) -> dict[str, Artifact]:
        """Open the inputs of a stage, by role.

        Raises:
            ArtifactMissing, ArtifactDamaged: the store lacks one of them.

        """
        return {role: self.store.open(ref) for role, ref in stage.inputs.items()}

    def _make(self, stage: Stage) -> Artifact:
        """Do a stage that leaves nothing for a later attempt to go on with."""
        started, inputs = time.monotonic(), self.opened(stage)
        with self.store.draft(stage.ref) as folder, _own_errors(inputs), memory.running_out_fails(OUT_OF_MEMORY):
            context = self.context(inputs, folder, title=stage.title)
            context = replace(context, checkpoints=self._checkpoints(stage.ref))
            record = _MODULES[stage.kind].run(stage.recipe, context)
            return self._commit(stage, folder, record, time.monotonic() - started)

    def _go_on(self, stage: Stage, folder_name: str) -> Artifact:
        """Do a stage in a folder that a later attempt goes on with."""
        started, context = time.monotonic(), self._unfinished(stage, folder_name)
        with _own_errors(context.inputs), memory.running_out_fails(OUT_OF_MEMORY):
            folder, record = _MODULES[stage.kind].run(stage.recipe, context)
        return self._commit(stage, folder, record, time.monotonic() - started)

    def _unfinished(self, stage: Stage, folder_name: str) -> StageContext:
        folder, bucket = self.store.partial(stage.ref) / folder_name, self.store.partial_bucket(stage.ref)
        return self.context(self.opened(stage), folder, bucket and bucket.below(folder_name))

    def _train(self, bundle: Bundle, missing: Bundle) -> dict[str, Artifact | StageFailed]:
        started = time.monotonic()
        ref = bundle_ref(bundle)
        checkpoints = self._checkpoints(ref)
        stages = to_train(bundle, missing, checkpoints)
        # All have the same data and labels, and each may begin with something else.
        inputs = {
            f"{role}/{stage.key}" if role == START else role: ref
            for stage in stages
            for role, ref in stage.inputs.items()
        }
        opened = {role: self.store.open(ref) for role, ref in inputs.items()}
        context = self.context(opened, self.store.partial(ref))
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
                if outcome.state is not None:
                    (folder / STATE).write_bytes(outcome.state)
                outcomes[stage.key] = self._commit(stage, folder, outcome.record, seconds)
        return outcomes

    def _checkpoints(self, ref: ArtifactRef) -> Checkpoints:
        return Checkpoints(
            self.store.partial(ref),
            self.checkpoint_seconds,
            self.runtime.device.type,
            self.confirm,
            self.saved,
            bucket=self.store.partial_bucket(ref),
        )

    def _help(self, recipe: SoftLabelling, stage: Stage) -> int:
        context = self._unfinished(stage, recipe.unfinished_folder)
        with ExitStack() as drafts, _own_errors(context.inputs), memory.running_out_fails(OUT_OF_MEMORY):
            if context.bucket:  # Blocks go there one by one; the folder is this helper's own.
                context = replace(context, folder=drafts.enter_context(self.store.draft(stage.ref)))
            return help_to_label(recipe, context)

    def _commit(self, stage: Stage, folder: Path, record: Record, seconds: float) -> Artifact:
        self.confirm()
        provenance = self.runtime.provenance
        return self.store.commit(stage.ref, folder, stage=stage, record=record, provenance=provenance, seconds=seconds)


def _own_errors(inputs: dict[str, Artifact]) -> AbstractContextManager[None]:
    """Report errors in the code of the models among some inputs, where these are the user's own, as the user's."""
    stages = [artifact.manifest.stage for artifact in inputs.values()]
    names = {model.name for stage in stages if stage for model in models_of(stage.recipe)}
    return plugins.called(" or ".join(sorted(filter(is_reference, names))), by_line=True)
