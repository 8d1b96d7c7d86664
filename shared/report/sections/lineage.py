"""Where each artifact comes from: key, seed, machine, date and versions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from distill_queue.shared.plan.recipes import Training
from distill_queue.shared.report.entries import Lineage
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.notes import not_shown
from distill_queue.shared.report.section import Section, Table


def section(facts: ReportFacts) -> Section:
    """A row for each artifact, and the versions of the libraries that made them."""
    text = (
        "A key is the SHA-256 of all that a result depends on: what is done, the spec's part, the version of the code "
        "that does it, and the inputs' keys. Equal keys mean equal results."
    )
    columns = ("stage", "key", "seed", "made on", "device", "made", "with")
    with_what = list(dict.fromkeys(_versions(each) for each in facts.lineage if _versions(each)))
    rows = tuple(_ancestry(each, with_what) for each in facts.lineage)
    versions = tuple((f"{place + 1}", version) for place, version in enumerate(with_what))
    tables = (
        Table("Artifacts", columns, rows, texts=len(columns)),
        Table("Versions", ("with", "versions"), versions, texts=2),
    )
    notes = not_shown(facts, "manifest")
    return Section("Lineage", text, tables=tables, notes=notes, folded=True)


def _versions(each: Lineage) -> str:
    versions = each.manifest.provenance.versions if each.manifest else {}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _ancestry(each: Lineage, with_what: Sequence[str]) -> tuple[str, ...]:
    recipe, manifest = each.stage.recipe, each.manifest
    seed = str(recipe.training.seed) if isinstance(recipe, Training) else ""
    if manifest is None:
        return (each.stage.title, each.stage.key, seed, "not in the store any more", "", "", "")
    made = f"{datetime.fromtimestamp(manifest.created, UTC):%Y-%m-%d %H:%M} UTC"
    versions = _versions(each)
    provenance = manifest.provenance
    number = str(with_what.index(versions) + 1) if versions else ""
    return (each.stage.title, each.stage.key, seed, provenance.host, provenance.device, made, number)
