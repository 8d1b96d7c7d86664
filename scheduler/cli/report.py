"""The `distill report` command: the page of a finished pipeline."""

from __future__ import annotations

import errno
import webbrowser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_queue.scheduler.cli.options import PipelineId
from distill_queue.scheduler.terminal.output import say
from distill_queue.shared.errors import InvalidSettings, store_errors
from distill_queue.shared.files.folders import write_whole
from distill_queue.shared.files.given_file import require_path, shown

if TYPE_CHECKING:
    from distill_queue.shared.ledger.status import PipelineStatus
    from distill_queue.shared.store.store import ArtifactStore

app = typer.Typer()


@app.command()
def report(
    pipeline: PipelineId,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to FILE, not into the store; replaces only an .html."),
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Write the report of a finished pipeline, one HTML file, and print its path."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.client.outcome import results_of
    from distill_queue.shared.errors import BrokerUnavailable, UnknownPipeline
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of

    settings = Settings.load()
    store = store_of(settings)
    if output:
        _require_place(output)
    kept = store.report(pipeline)
    try:
        status = PipelineClient(settings).status(pipeline)
        results_of(status)  # Raises if the pipeline is not finished.
        if output:
            _put(_page(status, store), output)
        else:
            _write(status, store, kept)
    except (BrokerUnavailable, UnknownPipeline) as error:
        if not _is_there(kept):
            raise
        say(f"the page is as it was written at the pipeline's end: {error}", err=True)
        if output:
            with store_errors(kept):
                page = kept.read_text("utf-8")
            _put(page, output)
    path = output or kept
    say(path)
    if show:
        webbrowser.open(path.absolute().as_uri())


def load() -> None:
    """Import what pages are drawn with, for a command that draws one later and only waits by now."""
    import_module("distill_queue.shared.report.page")


def page_of(status: PipelineStatus, store: ArtifactStore) -> Path:
    """The page of a finished pipeline: as a worker wrote it, or written now."""
    path = store.report(status.id)
    if not _is_there(path):
        _write(status, store, path)
    return path


def _is_there(page: Path) -> bool:
    with store_errors(page):
        return page.is_file()


def _write(status: PipelineStatus, store: ArtifactStore, path: Path) -> None:
    """Write a page; loads matplotlib, which other commands do without."""
    from distill_queue.shared.report.page import write_page

    write_page(status, store, path)


def _page(status: PipelineStatus, store: ArtifactStore) -> str:
    from distill_queue.shared.report.facts import ReportFacts
    from distill_queue.shared.report.page import render

    return render(ReportFacts.read(status, store))


def _require_place(output: Path) -> None:
    """Refuse a folder that is not there, and a file that is no report: it may have been named by mistake."""
    require_path(output)
    try:
        if not output.parent.is_dir():
            raise InvalidSettings(f"--output: {shown(output.parent)}: no such folder")
        if output.is_file() and output.resolve().suffix.lower() not in (".html", ".htm"):
            raise InvalidSettings(f"--output: {output}: is there already, and is no .html: name another file")
    except OSError as error:
        raise InvalidSettings(f"--output: {shown(output)}: {error.strerror or error}") from error


def _put(page: str, output: Path) -> None:
    """Write a page to a path of the user's; a link, a pipe or a device stays what it is."""
    try:
        write_whole(output, page)
    except OSError as error:
        why = "a pipe that nothing reads" if error.errno == errno.ENXIO else error.strerror or error
        raise InvalidSettings(f"--output: {output}: {why}") from error
