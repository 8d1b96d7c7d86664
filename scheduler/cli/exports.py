"""The `distill export` command: a folder of a trained student to take away. Imports late: `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_queue.scheduler.cli.options import PipelineId
from distill_queue.scheduler.terminal.output import say

if TYPE_CHECKING:
    from distill_queue.shared.results.export import ExportRecord

app = typer.Typer()


@app.command()
def export(
    pipeline: PipelineId,
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="A student's name, as in its spec.")],
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Export to it ('distill formats' lists them); may be repeated."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The model of another seed than the first.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default="STUDENT, here")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="What the files say of their licence, as cc-by-4.0.")] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Make it a folder that Hugging Face's hub takes.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that has other files.")] = False,
) -> None:
    """Write a trained student as files for other programs, with a card and programs that run them."""
    from distill_queue.scheduler.client.exported import asked_for
    from distill_queue.scheduler.client.trained import find_student
    from distill_queue.scheduler.exports.folder import contents, require_place, use_of, write
    from distill_queue.scheduler.exports.programs import kind_of
    from distill_queue.scheduler.exports.samples import inputs_of
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    found = find_student(pipeline, student, seed, settings)
    folder = output or Path(student)
    asked = asked_for(found, formats or (), licence)
    require_place(folder, force=force)
    files = contents(found, asked, settings, folder.name, for_hub=hub)
    write(files, folder)
    for name, content in files.items():
        say(f"{folder / name}: {len(content):,} bytes")
    say(f"Next: {use_of(str(folder), kind_of(found, inputs_of(found)), files)}")


def lines_of(pipeline: str, exports: dict[str, tuple[ExportRecord, ...]]) -> list[str]:
    """What a run's end says of the files that its students were exported to, and how to get them."""
    found = [f"Exported: {student}, {record.summary}" for student, records in exports.items() for record in records]
    for student, records in exports.items():
        if any(record.file.endswith(".onnx") for record in records):
            use = f"writes a folder, then: python {student}/predict.py"
            return [*found, f"Next: 'distill export {pipeline} {student}' {use}"]
    student = next((student for student, records in exports.items() if records), "")
    return [*found, f"Next: 'distill export {pipeline} {student}' writes a folder"] if student else found
