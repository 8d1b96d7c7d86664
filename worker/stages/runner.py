"""The story of a pipeline: one plain function a stage, each from inputs in the store to a new artifact."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from shutil import copyfile
from statistics import fmean
from typing import Literal

import torch

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import StageFailed, store_errors
from distill_queue.shared.plan.recipes import (
    ChooseStudent,
    Distill,
    Evaluate,
    ImportSoftLabels,
    JoinTeachers,
    Labels,
    LoadTeacher,
    PrepareData,
    SoftLabelling,
    TrainControl,
    Training,
    TrainTeacher,
    WriteReport,
    models_of,
)
from distill_queue.shared.plan.stage import Bundle, Stage, bundle_ref
from distill_queue.shared.results.history import HISTORY, history_of
from distill_queue.shared.results.records import (
    ChoiceRecord,
    DatasetRecord,
    EnsembleRecord,
    EvaluationRecord,
    TrainingRecord,
    WeightsRecord,
)
from distill_queue.shared.results.scores import ReportRecord, StudentRun
from distill_queue.shared.results.stage_record import Record
from distill_queue.shared.spec.training import AugmentationSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker import models
from distill_queue.worker.data import load as data
from distill_queue.worker.data.batches import Batches, size_bytes
from distill_queue.worker.data.teacher_logits import TeacherLogits
from distill_queue.worker.evaluation import cost, scores
from distill_queue.worker.evaluation import quality as evaluation
from distill_queue.worker.machine import memory, plugins
from distill_queue.worker.machine.runtime import Report, Runtime
from distill_queue.worker.stages import soft_labels as labelling
from distill_queue.worker.stages import teacher_checks
from distill_queue.worker.stages.context import WEIGHTS, StageContext, record_of, weights_of
from distill_queue.worker.stages.crew import Alone, Crew
from distill_queue.worker.training import own_code, probe
from distill_queue.worker.training.checkpoints import Checkpoints
from distill_queue.worker.training.fit import Member, Trained, fit
from distill_queue.worker.training.objective import Goal
from distill_queue.worker.training.probe import Findings

REPORT = "report.json"

OUT_OF_MEMORY = "it needs a machine with more, or one with less other work"

#: The last teacher's logits on the test set, by its folder, the data's, and the device.
_kept_logits: dict[tuple[Path, Path, torch.device], torch.Tensor] = {}


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
            bucket=self.store.partial_bucket(ref),
        )
        stages = _to_train(bundle, missing, checkpoints)
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
            if context.bucket:  # Blocks go there one by one; the folder is this helper's own.
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
                folder, record = labelling.import_labels(stage.recipe, context)
        return self._commit(stage, folder, record, time.monotonic() - started)

    def _label_desk(self, stage: Stage) -> StageContext:
        inputs = {role: self.store.open(ref) for role, ref in stage.inputs.items()}
        folder, bucket = self.store.partial(stage.ref) / "soft_labels", self.store.partial_bucket(stage.ref)
        return StageContext(inputs, folder, self.runtime, self.report, bucket and bucket.below("soft_labels"))

    def _commit(self, stage: Stage, folder: Path, record: Record, seconds: float) -> Artifact:
        self.confirm()
        provenance = self.runtime.provenance
        return self.store.commit(stage.ref, folder, stage=stage, record=record, provenance=provenance, seconds=seconds)


def prepare_data(recipe: PrepareData, context: StageContext) -> DatasetRecord:
    """Pack a data set into memory-mappable arrays."""
    context.report("reading")
    return data.load(recipe.dataset, context.runtime).save(context.folder)


def train_models(
    stages: Bundle, context: StageContext, checkpoints: Checkpoints
) -> list[tuple[torch.nn.Module, Trained | StageFailed]]:
    """Train the models of some stages, which have one shape and one schedule: teacher, students and controls."""
    recipes, runtime = [_training_of(stage) for stage in stages], context.runtime
    first = recipes[0]
    members = [_member(recipe, context, stacked=len(stages) > 1) for recipe in recipes]
    labels, labelled = context.soft_labels() if "soft_labels" in context.inputs else (None, None)
    augmentation, views = _views(first, labelled)
    mapped = context.split("train", streamed=True)
    inputs = mapped.normalised(slice(0, 1))
    validation = context.split("validation", streamed=True) if context.dataset.validation_samples else None
    beside = (0 if labels is None else labels.header.size_bytes) + (validation.inputs.nbytes if validation else 0)
    models, free = [member.model for member in members], runtime.free_bytes

    def need_of(found: Findings) -> memory.Need:
        size = size_bytes(mapped, augmentation, found.dtype) + beside
        return memory.of_training(models, first.training, inputs, found.dtype, size, joined=found.joined)

    with plugins.called(_whose(first)):
        need = need_of(expected := Findings(runtime.dtype(first.training.precision)))
        need.streams(free)  # Raises where there is no room, not even for a probe.
    with plugins.called(_whose(first)), memory.running_out_fails(need.explanation(free)):
        found = probe.examine(recipes, models, context.dataset, mapped, runtime)
        need = need if found == expected else need_of(found)
    with plugins.called(_whose(first)), memory.running_out_fails(need.explanation(free)):
        streamed = need.streams(free)
        train = mapped if streamed else mapped.read_whole()
        held_out = validation if validation is None or streamed else validation.read_whole()
        teacher_logits = None if labels is None else TeacherLogits.of(labels, runtime.device, streamed=streamed)
        batches = Batches(train, augmentation, views, found.dtype, teacher_logits)
        outcomes = fit(members, batches, held_out, found.dtype, context.report, checkpoints, joined=found.joined)
    return [(member.model, _noted(outcome, found)) for member, outcome in zip(members, outcomes, strict=True)]


def load_teacher(recipe: LoadTeacher, context: StageContext) -> WeightsRecord:
    """Check that given weights are those of the teacher's model, and take them."""
    weights = context.inputs["checkpoint"].path(WEIGHTS)
    model = models.load(
        models.build(recipe.model, context.dataset, context.runtime), weights, called="teacher.checkpoint"
    )
    train = context.split("train", streamed=True)
    name = recipe.model.name if is_reference(recipe.model.name) else ""
    if name:
        own_code.require_steady(model, name, train.normalised(slice(0, probe.ROWS)))
    with plugins.called(name):
        _, batch_size = context.inference(model, train, size_bytes=0)
        warnings = tuple(
            teacher_checks.check(model, recipe.normalise, context.dataset, train, batch_size, context.report)
        )
    copyfile(weights, context.folder / WEIGHTS)
    return WeightsRecord(parameters=models.parameters(model), warnings=warnings)


def join_teachers(recipe: JoinTeachers, context: StageContext) -> EnsembleRecord:
    """Make one model of several teachers."""
    joined = context.ensemble(recipe)
    for number, teacher in enumerate(joined.models, start=1):
        models.load(teacher, context.inputs[f"teacher {number}"].path(WEIGHTS))
    models.save(joined, context.folder / WEIGHTS)
    return EnsembleRecord(teachers=len(recipe.models), parameters=models.parameters(joined))


def choose(recipe: ChooseStudent, context: StageContext) -> ChoiceRecord:
    """Find the point of a grid that is best on held-out samples, and take its models."""
    trained = [
        {seed: record_of(context.inputs[f"{place}/{seed}"], TrainingRecord) for seed in recipe.seeds}
        for place in range(len(recipe.labels))
    ]
    held_out = [fmean(_held_out(record) for record in records.values()) for records in trained]
    best = held_out.index(max(held_out))
    for seed in recipe.seeds:
        chosen = context.inputs[f"{best}/{seed}"]
        copyfile(chosen.path(WEIGHTS), context.folder / weights_of(seed))
        if HISTORY in chosen.manifest.files:  # Trainings of earlier versions have none.
            copyfile(chosen.path(HISTORY), context.folder / history_of(seed))
    return ChoiceRecord(labels=recipe.labels, held_out=tuple(held_out), trained=trained[best])


def _held_out(record: TrainingRecord) -> float:
    if record.held_out_accuracy is None:
        raise StageFailed("a grid needs held-out samples: set dataset.validation")
    return record.held_out_accuracy


def evaluate(recipe: Evaluate, context: StageContext) -> EvaluationRecord:
    """Score a model, or the one that was chosen from a grid, on the test set, beside the teacher."""
    model = context.model("model", recipe.seed)
    test, batch_size = context.split_for(model, "test")
    logits = evaluation.logits_of(model, test, context.report, batch_size)
    evaluation.predictions(logits).write(context.folder)
    teacher_logits = _teacher_on_test(context)
    of_model = context.inputs["model"].manifest
    weights = WEIGHTS if recipe.seed is None else weights_of(recipe.seed)
    trained = of_model.record
    if isinstance(trained, ChoiceRecord) and recipe.seed is not None:
        trained = trained.trained[recipe.seed]
    context.report("latency")
    latency_median_ms, latency_p95_ms = cost.latency_ms(model, test)
    return EvaluationRecord(
        samples=len(test),
        accuracy=evaluation.accuracy(logits, test.targets),
        negative_log_likelihood=evaluation.negative_log_likelihood(logits, test.targets),
        agreement=None if teacher_logits is None else evaluation.agreement(logits, teacher_logits),
        parameters=models.parameters(model),
        trained_parameters=models.trained_parameters(model),
        multiply_adds=cost.multiply_adds(model, test),
        size_bytes=of_model.files[weights].size_bytes,
        latency_median_ms=latency_median_ms,
        latency_p95_ms=latency_p95_ms,
        throughput=cost.throughput(model, test, batch_size),
        device=context.runtime.provenance.device,
        training_seconds=trained.seconds if isinstance(trained, TrainingRecord) else None,
    )


def _teacher_on_test(context: StageContext) -> torch.Tensor | None:
    """The teacher's logits on the test set; kept for the next evaluation, as a sweep's students have one teacher."""
    if "teacher" not in context.inputs:
        return None
    of = (context.inputs["teacher"].folder, context.inputs["dataset"].folder, context.runtime.device)
    if of not in _kept_logits:
        _kept_logits.clear()
        teacher = context.model("teacher")
        test, batch_size = context.split_for(teacher, "test")
        _kept_logits[of] = evaluation.logits_of(teacher, test, context.report, batch_size)
    return _kept_logits[of]


def write_report(recipe: WriteReport, context: StageContext) -> ReportRecord:
    """Compare every student with its control and with the teacher."""
    choices = {
        role: record_of(context.inputs[role], ChoiceRecord) for role in context.inputs if role.endswith("/choice")
    }
    evaluations = {
        role: record_of(artifact, EvaluationRecord) for role, artifact in context.inputs.items() if role not in choices
    }
    students = []
    for student in recipe.students:
        runs = tuple(
            StudentRun(
                seed=seed,
                student=evaluations[student.role(seed)],
                control=evaluations.get(student.control(seed)),
            )
            for seed in student.seeds
        )
        score = scores.score(student.name, runs, evaluations.get("teacher"))
        chosen = {
            "choice": choices.get(f"{student.name}/choice"),
            "control_choice": choices.get(f"{student.name}/control/choice"),
        }
        students.append(score.model_copy(update=chosen))
    teachers = tuple(evaluations[f"teacher {number}"] for number in range(1, recipe.teachers + 1))
    report = ReportRecord(teacher=evaluations.get("teacher"), teachers=teachers, students=tuple(students))
    (context.folder / REPORT).write_text(report.model_dump_json(indent=1), encoding="utf-8")
    return report


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


def _to_train(bundle: Bundle, missing: Bundle, checkpoints: Checkpoints) -> Bundle:
    """What is missing; with it, what was trained beside it before: a checkpoint goes on to the same bits as a whole."""
    checkpoint = checkpoints.latest()
    together = set(checkpoint.facts["members"]) if checkpoint else set()
    if {stage.key for stage in missing} <= together:
        missing = tuple(stage for stage in bundle if stage.key in together)
    else:
        checkpoints.clear()
    checkpoints.members = [stage.key for stage in missing]
    return missing


def _training_of(stage: Stage) -> Training:
    if not isinstance(stage.recipe, Training):
        raise StageFailed(f"{stage.kind} trains no model")
    return stage.recipe


def _noted(outcome: Trained | StageFailed, found: Findings) -> Trained | StageFailed:
    """The outcome with what was found out before."""
    if isinstance(outcome, StageFailed) or found.fallback is None:
        return outcome
    return replace(outcome, record=outcome.record.model_copy(update={"fallback": found.fallback}))


def _member(recipe: Training, context: StageContext, *, stacked: bool) -> Member:
    model = models.build(recipe.model, context.dataset, context.runtime, recipe.training.seed)
    goal = Goal(label_smoothing=recipe.training.label_smoothing)
    if isinstance(recipe, Distill):
        name = recipe.distillation.loss
        soft_loss = None
        if is_reference(name):
            soft_loss = own_code.soft_loss(recipe.distillation, context.dataset, context.runtime, stacked=stacked)
        goal = Goal(recipe.distillation, recipe.training.label_smoothing, soft_loss)
    return Member(model, recipe.training, goal)


def _whose(recipe: Training) -> str:
    """Whose code a mistake in a training is: the user's own, if there is any."""
    loss = recipe.distillation.loss if isinstance(recipe, Distill) else ""
    return " or ".join(name for name in (recipe.model.name, loss) if is_reference(name))


def _whose_models(inputs: dict[str, Artifact]) -> str:
    """Whose code runs where the models among some inputs do: the user's own, if there is any."""
    stages = [artifact.manifest.stage for artifact in inputs.values()]
    names = {model.name for stage in stages if stage for model in models_of(stage.recipe)}
    return " or ".join(sorted(filter(is_reference, names)))


def _views(recipe: Training, labelled: Labels | None) -> tuple[AugmentationSpec, int | None]:
    """The augmentation and the number of views that are seen: a teacher sees one an epoch, the others the labels'."""
    match recipe:
        case TrainTeacher(training=training):
            return training.augmentation, None
        case TrainControl(augmentation=augmentation, views=views):
            return augmentation, views
    if labelled is None:
        raise StageFailed(f"{recipe.kind} needs soft labels")
    return labelled.augmentation, labelled.views
