"""The report of a pipeline: one HTML file that needs nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.folders import draft_file
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.recipes import PrepareData
from distill_queue.shared.report.contents import sections_of
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.sentences import headlines, samples
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.shared.text import plain_text


def write_page(status: PipelineStatus, store: ArtifactStore, path: Path) -> None:
    """Write the report of a finished pipeline, whole or not at all.

    Raises:
        PipelineFailed: it has no results.
        StoreUnavailable: the file cannot be written.

    """
    page = render(ReportFacts.read(status, store))
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_file(path) as draft:
            draft.write_text(page, encoding="utf-8")
            draft.replace(path)


def render(facts: ReportFacts) -> str:
    """The page as HTML; names that users chose are shown as text, even if they look like HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    template = environment.from_string(
        (files("distill_queue.shared.report") / "report.html").read_text(encoding="utf-8")
    )
    return template.render(
        name=facts.status.plan.name,
        id=facts.status.id,
        submitted=f"{datetime.fromtimestamp(facts.status.submitted, UTC):%Y-%m-%d %H:%M} UTC",
        data=_data(facts),
        warnings=facts.status.warnings,
        headlines=headlines(facts.scores),
        students=len(facts.students),
        sections=sections_of(facts),
    )


def _shown(value: Any) -> Any:
    """Make text plain, so that it cannot turn the direction of the page; leave HTML and other values as they are."""
    return plain_text(value) if type(value) is str else value


def _data(facts: ReportFacts) -> str:
    recipe = facts.status.plan.trunk[0].recipe
    name = f"{recipe.dataset.name}: " if isinstance(recipe, PrepareData) else ""
    return f"Data set {name}{samples(facts.dataset)}"
