"""The `distill` commands about specs: what one may say, and what becomes of it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scheduler import report
from shared.catalog import DATASETS, LOSSES, MODELS, DatasetFacts
from shared.errors import DistillError, InvalidSettings
from shared.plan import Plan
from shared.settings import Settings
from shared.spec import PipelineSpec
from shared.store import ArtifactStore

app = typer.Typer()
console = Console(highlight=False)

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="A pipeline's spec: .yaml, .toml or .json.")]
SpecPaths = Annotated[list[Path], typer.Argument(metavar="SPEC…", help="Specs: .yaml, .toml or .json.")]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Set a value first, as students.0.distillation.temperature=2."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def init(path: Annotated[Path, typer.Argument(metavar="FILE")] = Path("pipeline.yaml")) -> None:
    """Write a commented spec to start from."""
    text = (files("scheduler") / "starter.yaml").read_text()
    try:
        with path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise InvalidSettings(f"{path}: is there already: name another file") from None
    except OSError as error:
        raise InvalidSettings(f"{path}: {error.strerror or error}") from error
    console.print(f"{path}: edit it, then 'distill plan {path}' and 'distill run {path}'", soft_wrap=True)


@app.command()
def validate(specs: SpecPaths) -> None:
    """Read specs, and say what is wrong with them."""
    errors = []
    for path in specs:
        try:
            plan = Plan.of(PipelineSpec.load(path))
        except DistillError as error:
            errors.append(str(error))
        else:
            console.print(f"{path}: {plan.name}, {len(plan.stages)} stages", soft_wrap=True)
    if errors:
        raise InvalidSettings("\n".join(errors))


@app.command()
def plan(spec: SpecPath, changes: Changes = None, as_json: AsJson = False) -> None:
    """Show a spec's stages, their keys, and which are in the store already."""
    store, found = ArtifactStore(Settings.load().store), Plan.of(PipelineSpec.load(spec, changes or ()))
    if as_json:
        stages = [
            {
                "title": stage.title,
                "task": f"distill.{stage.kind}",
                "key": stage.key,
                "needs": [ref.key for ref in stage.inputs.values()],
                "found": stage.ref in store,
            }
            for stage in found.stages
        ]
        typer.echo(json.dumps({"name": found.name, "stages": stages}, indent=1))
        return
    console.print(report.plan_table(found, store))


@app.command()
def schema() -> None:
    """Print the spec's JSON Schema, for editors."""
    typer.echo(json.dumps(PipelineSpec.model_json_schema(), indent=2))


@app.command()
def datasets(as_json: AsJson = False) -> None:
    """List the data sets that a spec may name."""
    _list({name: f"{facts.about}; {_shape(facts)}" for name, facts in DATASETS.items()}, as_json)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that a spec may name."""
    _list(MODELS | {"torchvision/<name>": "any classifier of torchvision, fitted to the classes: weights: …"}, as_json)


@app.command()
def losses(as_json: AsJson = False) -> None:
    """List the soft losses that a spec may name."""
    _list(LOSSES, as_json)


def _shape(facts: DatasetFacts) -> str:
    return f"{' x '.join(map(str, facts.shape))}, {facts.classes} classes"


def _list(known: dict[str, str], as_json: bool) -> None:
    known = known | {"package.module:callable": "your own: docs/spec.md and examples/custom"}
    if as_json:
        typer.echo(json.dumps(known, indent=1, ensure_ascii=False))
        return
    table = Table.grid(padding=(0, 2))
    for name, about in known.items():
        table.add_row(name, escape(about))
    console.print(table)
