"""The `distill labels` commands: caches of soft labels. Imports late: `--help` answers at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.text import Text

from distill_queue.scheduler.cli.options import console
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.exit_code import ExitCode

if TYPE_CHECKING:
    from distill_queue.scheduler.labels.caches import Cache

app = typer.Typer(help="Look at caches of soft labels, verify, export and import them.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(metavar="CACHE", help="A cache's folder, or the beginning of its key ('distill plan' shows keys)."),
]


@app.command()
def info(cache: Name) -> None:
    """Show what a cache holds, how it is stored, and how good its labels are."""
    from distill_queue.scheduler.tables.label_tables import cache_table

    console.print(cache_table(_find(cache)))


@app.command("verify")
def verify_command(
    cache: Name,
    rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="Random rows to compute again.")] = 256,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the random rows; a new one each time.")] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Largest difference, as a share of a row's largest logit.")
    ] = 1e-3,
) -> None:
    """Check structure, checksums and accuracy, and compute random rows again with the teacher; pass or fail."""
    from distill_queue.scheduler.labels.checks import random_seed, verify
    from distill_queue.scheduler.tables.label_tables import check_line

    results = []
    for check in verify(_find(cache), rows, random_seed() if seed is None else seed, tolerance):
        console.print(check_line(check), soft_wrap=True)
        results.append(check.passed)
    if False in results:
        console.print(Text("failed", "bold red"))
        raise typer.Exit(ExitCode.BADLY)
    console.print(Text.assemble(("passed", "green"), "" if all(results) else " what could be checked"))


@app.command()
def head(
    cache: Name,
    samples: Annotated[int, typer.Option("-n", "--samples", min=1, max=10_000)] = 5,
    view: Annotated[int, typer.Option(min=0)] = 0,
    temperature: Annotated[float, typer.Option(min=1e-3, max=1e4)] = 1.0,
) -> None:
    """Show the teacher's most probable classes for the first samples."""
    import numpy as np

    from distill_queue.scheduler.tables.label_tables import head_table

    found = _find(cache)
    if view >= found.labels.header.views:
        raise InvalidSettings(f"--view: {view} of {found.labels.header.views} views, counted from 0")
    rows = slice(0, min(samples, len(found.labels)))
    probabilities = found.labels.batch(rows, view, temperature)
    targets = found.targets
    wanted = np.full(len(probabilities), -1) if targets is None else targets[rows]
    header = found.labels.header
    kept = header.encoding.top_k or header.classes
    console.print(head_table(probabilities, wanted, header.class_names, kept))


@app.command("export")
def export_command(
    cache: Name, path: Annotated[Path, typer.Argument(metavar="FILE", help="A new .npz or .safetensors file.")]
) -> None:
    """Write a cache's logits, decoded, into one file for other programs."""
    from distill_queue.shared.soft_labels.label_file import export

    size_bytes = export(_find(cache).labels, path)
    _print(f"{path}: {size_bytes / 1e6:,.1f} MB")


@app.command("import")
def import_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An .npz or .safetensors file with 'logits'.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the cache.")],
    dtype: Annotated[Literal["float32", "float16", "uint8"], typer.Option()] = "float32",
    top_k: Annotated[int | None, typer.Option(min=1, help="Keep the largest k logits of a row.")] = None,
) -> None:
    """Make a cache from a file's logits; for a pipeline, name the file in its spec instead."""
    from distill_queue.scheduler.labels.caches import import_file
    from distill_queue.shared.soft_labels.encoding import Encoding

    labels = import_file(path, folder, Encoding(dtype=dtype, top_k=top_k))
    _print(f"{folder}: {len(labels):,} samples, {labels.header.size_bytes / 1e6:,.1f} MB")


@app.command("samples")
def samples_command(
    spec: Annotated[Path, typer.Argument(metavar="SPEC", help="A spec; its 'dataset' and 'soft_labels' are read.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for inputs.npy and targets.npy.")],
) -> None:
    """Write the training samples in the order of their soft labels, for a teacher that cannot run here."""
    from distill_queue.scheduler.client.data_on_disk import load_data, with_folders_of
    from distill_queue.scheduler.labels.caches import write_samples
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    dataset, soft_labels = load_data(spec, settings)
    facts = write_samples(dataset, soft_labels, folder, with_folders_of(settings, dataset, spec))
    _print(f"{folder}: inputs.npy, targets.npy, facts.json; data set {facts['dataset_key'][:8]}")


def _print(text: str) -> None:
    console.print(text, soft_wrap=True)


def _find(name: str) -> Cache:
    from distill_queue.scheduler.labels.caches import Cache
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of

    return Cache.find(name, store_of(Settings.load()))
