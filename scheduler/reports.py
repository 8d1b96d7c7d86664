"""The `distill report` command: the page of a finished pipeline."""

from __future__ import annotations

import shutil
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scheduler.options import PipelineId

if TYPE_CHECKING:
    from shared.status import PipelineStatus
    from shared.store import ArtifactStore

app = typer.Typer()


@app.command()
def report(
    pipeline: PipelineId,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to, if not into the store.")] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Write the report of a finished pipeline, one HTML file, and print its path."""
    from scheduler.client import PipelineClient, results_of
    from shared.errors import BrokerUnavailable, UnknownPipeline, store_errors
    from shared.object_store import store_of
    from shared.settings import Settings

    settings = Settings.load()
    store = store_of(settings)
    kept = store.report(pipeline)
    path = output or kept
    try:
        status = PipelineClient(settings).status(pipeline)
        results_of(status)  # Only of a finished one.
        with _saying_where(output):
            _write(status, store, path)
    except (BrokerUnavailable, UnknownPipeline) as error:
        if not kept.is_file():
            raise
        typer.echo(f"as it was written at the pipeline's end: {error}", err=True)
        if output:
            with _saying_where(output), store_errors(output):
                shutil.copyfile(kept, output)
    typer.echo(path)
    if show:
        webbrowser.open(path.absolute().as_uri())


def page_of(status: PipelineStatus, store: ArtifactStore) -> Path:
    """The page of a finished pipeline: as its last stage wrote it, or written now."""
    path = store.report(status.id)
    if not path.is_file():
        _write(status, store, path)
    return path


def _write(status: PipelineStatus, store: ArtifactStore, path: Path) -> None:
    """Write a page; loads matplotlib, for which no other command waits."""
    from shared.report_page import write_page

    write_page(status, store, path)


@contextmanager
def _saying_where(output: Path | None) -> Iterator[None]:
    """Raise that a file of the user's cannot be written as `InvalidSettings`."""
    from shared.errors import InvalidSettings, StoreUnavailable

    try:
        yield
    except StoreUnavailable as error:
        if output is None or not isinstance(error.__cause__, OSError):
            raise
        raise InvalidSettings(f"--output: {output}: {error.__cause__.strerror}") from error
