"""The report of a pipeline: one HTML file that needs nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.folders import draft_file
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.plan.recipes import Distill, PrepareData
from distill_queue.shared.report.contents import sections_of
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section
from distill_queue.shared.report.sentences import headlines, samples
from distill_queue.shared.report.trial import Trial
from distill_queue.shared.results.stage_record import StageWarning
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.shared.text import plain_text


@dataclass(frozen=True, slots=True)
class Page:
    """What a page shows."""

    title: str
    #: Lines below the title.
    about: tuple[str, ...]
    headlines: tuple[str, ...]
    #: Of how many things the first headline tells the best.
    best_of: int
    sections: tuple[Section, ...]
    warnings: tuple[StageWarning, ...] = ()

    @property
    def trial(self) -> Trial | None:
        """The models that answer in the page, if some do."""
        return next((section.trial for section in self.sections if section.trial), None)


def write_page(status: PipelineStatus, store: ArtifactStore, path: Path) -> None:
    """Write the report of a finished pipeline, whole or not at all.

    Raises:
        PipelineFailed: it has no results.
        StoreUnavailable: the file cannot be written.

    """
    put_page(render(ReportFacts.read(status, store)), path)


def render(facts: ReportFacts) -> str:
    """The page of a pipeline as HTML."""
    submitted = f"{datetime.fromtimestamp(facts.status.submitted, UTC):%Y-%m-%d %H:%M} UTC"
    return filled(
        Page(
            title=facts.status.plan.name,
            about=(f"Pipeline {facts.status.id}, submitted {submitted}", _data(facts), *_taught(facts)),
            headlines=headlines(facts.scores),
            best_of=len(facts.students),
            sections=sections_of(facts),
            warnings=facts.status.warnings,
        )
    )


def filled(page: Page) -> str:
    """A page as HTML that needs nothing else; all text is shown as text, even if it looks like HTML."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    template = environment.from_string(
        (files("distill_queue.shared.report") / "report.html").read_text(encoding="utf-8")
    )
    return template.render(page=page)


def put_page(page: str, path: Path) -> None:
    """Write a page, whole or not at all.

    Raises:
        StoreUnavailable: the file cannot be written.

    """
    with store_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_file(path) as draft:
            draft.write_text(page, encoding="utf-8")
            draft.replace(path)


def _shown(value: Any) -> Any:
    """Make text plain, so that it cannot turn the direction of the page; leave HTML and other values as they are."""
    return plain_text(value) if type(value) is str else value


def _taught(facts: ReportFacts) -> tuple[str, ...]:
    """Where the teacher's logits came from, if not from the store as in most pipelines."""
    online = any(isinstance(stage.recipe, Distill) and stage.recipe.online for stage in facts.status.plan.stages)
    return ("The teacher answered in each step of its students; no soft labels are stored",) if online else ()


def _data(facts: ReportFacts) -> str:
    recipe = facts.status.plan.trunk[0].recipe
    name = f"{recipe.dataset.called}: " if isinstance(recipe, PrepareData) else ""
    return f"Data set {name}{samples(facts.dataset)}"
