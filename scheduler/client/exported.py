"""Exported students: takes the files of a trained student out of the store, or has them made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from distill_queue.scheduler.client.trained import TrainedStudent
from distill_queue.scheduler.offline import ask
from distill_queue.shared.catalog import did_you_mean, is_reference
from distill_queue.shared.errors import ArtifactDamaged, InvalidSettings
from distill_queue.shared.plan.exports import export_of
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import Export
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.export import FORMATS, ExportSpec
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore

#: What a student is exported to where neither its spec nor the command names a format.
USUAL = ExportSpec()


def asked_for(student: TrainedStudent, formats: Sequence[str], licence: str | None) -> ExportSpec:
    """How a student is to be exported: as its spec says, but for what is given here.

    Raises:
        InvalidSettings: there is no such format, or the licence is no line of text.

    """
    for name in formats:
        if name not in FORMATS and not is_reference(name):
            raise InvalidSettings(f"--format: unknown format '{name}'{did_you_mean(name, FORMATS)}")
    usual = student.asked or USUAL
    given: dict[str, Any] = {"formats": tuple(dict.fromkeys(formats))} if formats else {}
    given |= {} if licence is None else {"licence": licence}
    try:
        return ExportSpec.model_validate(usual.model_dump() | given)
    except ValidationError as error:
        raise InvalidSettings(f"--licence: {error.errors()[0]['msg']}") from error


def exported(
    student: TrainedStudent, asked: ExportSpec, settings: Settings, advance: Callable[[str], object]
) -> tuple[Artifact, ...]:
    """The files of a student, each an artifact; what is not in the store is made, in a process of its own.

    Args:
        student: a trained one.
        asked: the formats.
        settings: of the store.
        advance: called with how far it is, in words.

    Raises:
        InvalidSettings: a library is not installed here.
        DistillError: the file's answers are not the student's, or it cannot be made.

    """
    store, found = student.pipeline.store, []
    data = ArtifactRef(kind=student.dataset.manifest.kind, key=student.dataset.manifest.key)
    seed = student.seed if student.is_chosen else None
    candidates = student.candidates if asked.quantise == "aware" else ()
    for name in asked.formats:
        stage = export_of(student.role, name, asked, data, student.stage, seed, candidates)
        if (artifact := store.obtain(stage.ref)) is None:
            require_libraries(f"{name} needs", [name])
            ask({"export": stage.model_dump(mode="json")}, settings, advance)
            artifact = store.open(stage.ref)
        found.append(artifact)
    return tuple(found)


def record_of(export: Artifact) -> ExportRecord:
    """How an exported file did.

    Raises:
        ArtifactDamaged: it has no such record.

    """
    record = export.record
    if not isinstance(record, ExportRecord):
        raise ArtifactDamaged(f"{export.folder}: not the artifact of an export")
    return record


def require_exporters(plan: Plan, store: ArtifactStore) -> None:
    """Refuse a plan whose exports cannot be made on this machine, before any work.

    Raises:
        InvalidSettings: a library is not installed; the message says which, and how to get it.

    """
    for stage in plan.stages:
        if isinstance(stage.recipe, Export) and stage.ref not in store:
            require_libraries(f"the spec has an export, {stage.title}, which needs", [stage.recipe.format])


def require_libraries(what: str, formats: Iterable[str]) -> None:
    """Refuse formats whose libraries are not installed here.

    Args:
        what: needs them, as the message's beginning.
        formats: by their names.

    Raises:
        InvalidSettings: one is not.

    """
    for known in filter(None, map(FORMATS.get, formats)):
        lacking = [library for library in known.libraries if find_spec(library) is None]
        if lacking:
            raise InvalidSettings(
                f"{what} {' and '.join(lacking)}, not installed here: pip install 'distill-queue[{known.extra}]'"
            )
