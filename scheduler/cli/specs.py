"""The `distill` commands about specs: what they may name, and their plans. Imports late: `--help` answers at once."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_queue.scheduler.cli.options import AsJson, Changes, SpecPath, SpecPaths, console
from distill_queue.scheduler.terminal.output import print_json
from distill_queue.shared.errors import DistillError, InvalidInput, InvalidSettings, InvalidSpec
from distill_queue.shared.files.folders import removed_if_unfinished
from distill_queue.shared.files.given_file import require_path, shown

if TYPE_CHECKING:
    from distill_queue.shared.catalog import DatasetFacts
    from distill_queue.shared.extensions import ExtensionKind
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.results.records import DatasetRecord
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spec.pipeline import PipelineSpec

app = typer.Typer()


@app.command()
def init(path: Annotated[Path, typer.Argument(metavar="FILE")] = Path("pipeline.yaml")) -> None:
    """Write a commented spec to start from."""
    require_path(path)
    text = (files("distill_queue.scheduler.cli") / "starter.yaml").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file, removed_if_unfinished(path):
            file.write(text)
            file.flush()
    except FileExistsError:
        raise InvalidSettings(f"{shown(path)}: is there already: name another file") from None
    except OSError as error:
        raise InvalidSettings(f"{shown(path)}: {error.strerror or error}") from error
    console.print(f"{path}: edit it, then 'distill plan {path}' and 'distill run {path}'", soft_wrap=True)


@app.command()
def validate(
    specs: SpecPaths,
    data: Annotated[
        bool, typer.Option("--data", help="Read their data as well, as a worker would, and say what is odd about them.")
    ] = False,
) -> None:
    """Read specs, and say what is wrong with them."""
    from distill_queue.scheduler.client.data_on_disk import load_spec, with_folders
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    errors: list[DistillError] = []
    described: dict[str, DatasetRecord] = {}
    for path in specs:
        try:
            spec = load_spec(path, settings)
            plan = Plan.of(spec)
        except DistillError as error:
            errors.append(InvalidSettings(str(error)))
            continue
        console.print(f"{path}: {plan.name}, {len(plan.stages)} stages", soft_wrap=True)
        try:
            _say_of_data(spec, plan, described, with_folders(settings, spec, path), read=data)
        except DistillError as error:  # A failed download does not concern the next spec.
            kind = InvalidSettings if isinstance(error, InvalidInput) else type(error)
            errors.append(kind(f"{path}: dataset: {error}"))
    if errors:  # Among errors of several kinds a mistake counts most: it does not pass by itself.
        kind = next((type(error) for error in errors if isinstance(error, InvalidSettings)), type(errors[0]))
        raise kind("\n".join(map(str, errors)))


def _say_of_data(
    spec: PipelineSpec, plan: Plan, described: dict[str, DatasetRecord], settings: Settings, *, read: bool
) -> None:
    """Print what a spec's data are and what is odd about them; read each data set once, and only if `read` says so.

    Raises:
        InvalidInput: they cannot be used, or are not what the spec's plan needs.
        DistillError: they cannot be read for now.

    """
    from distill_queue.scheduler.offline import ask
    from distill_queue.scheduler.watch import tree as live
    from distill_queue.shared.catalog import is_reference
    from distill_queue.shared.plan.demands import unmet
    from distill_queue.shared.report.sentences import samples
    from distill_queue.shared.results.records import DatasetRecord
    from distill_queue.shared.spec.sources.on_disk import SourceOnDisk

    dataset = spec.dataset
    if not read:
        if is_reference(dataset.name):
            console.print(f"  {dataset.name} was not read: --data reads it", soft_wrap=True)
        if isinstance(dataset, SourceOnDisk) and dataset.content is None:
            console.print(f"  {dataset.path} does not lie here: only workers see it", soft_wrap=True)
        return
    if (asked := dataset.model_dump_json()) not in described:
        described[asked] = DatasetRecord.model_validate(ask({"data": dataset.model_dump(mode="json")}, settings))
    record = described[asked]
    console.print(f"  {dataset.called}: {samples(record)}", soft_wrap=True)
    told = [warning for warning in record.warnings if warning.kind not in spec.accept]
    for warning in told:
        console.print(live.warned(warning), soft_wrap=True)
    if told:
        kinds = ", ".join(dict.fromkeys(warning.kind for warning in told))
        console.print(f"  if that is intended, add to the spec: accept: [{kinds}]", soft_wrap=True)
    if text := unmet(plan, record):
        raise InvalidSpec(text)


@app.command()
def plan(spec: SpecPath, changes: Changes = None, as_json: AsJson = False) -> None:
    """Show a spec's stages, their keys, and which are in the store already."""
    from distill_queue.scheduler.client.data_on_disk import load_spec
    from distill_queue.scheduler.tables.tables import plan_table
    from distill_queue.shared.plan.plan import Plan
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import store_of

    settings = Settings.load()
    store, found = store_of(settings), Plan.of(load_spec(spec, settings, changes or ()))
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
        print_json({"name": found.name, "stages": stages})
        return
    console.print(plan_table(found, store))


@app.command()
def schema() -> None:
    """Print the spec's JSON Schema, for editors."""
    from distill_queue.scheduler.client.schema import schema_of_specs

    print_json(schema_of_specs())


@app.command()
def datasets(as_json: AsJson = False) -> None:
    """List the data sets that a spec may name."""
    from distill_queue.shared.catalog import DATASETS, OWN
    from distill_queue.shared.spec.dataset import LISTED

    built_in = {name: f"{facts.about}; {_shape(facts)}" for name, facts in DATASETS.items()}
    _list(LISTED | built_in | OWN, "data_sources", as_json)


@app.command()
def models(as_json: AsJson = False) -> None:
    """List the models that a spec may name."""
    from distill_queue.shared.spec.model import MODELS

    _list(MODELS, "models", as_json)


@app.command()
def losses(as_json: AsJson = False) -> None:
    """List the soft losses that a spec may name."""
    from distill_queue.shared.catalog import OWN
    from distill_queue.shared.spec.distillation import LOSSES

    _list({name: loss.about for name, loss in LOSSES.items()} | OWN, "losses", as_json)


@app.command()
def formats(as_json: AsJson = False) -> None:
    """List the formats that a spec may export a student to."""
    from distill_queue.shared.catalog import OWN
    from distill_queue.shared.spec.export import FORMATS

    _list({name: found.about for name, found in FORMATS.items()} | OWN, "formats", as_json)


def _shape(facts: DatasetFacts) -> str:
    return f"{' x '.join(map(str, facts.shape))}, {facts.classes} classes"


def _list(known: dict[str, str], kind: ExtensionKind, as_json: bool) -> None:
    """Print the names that a spec may give, and those that installed packages add."""
    from rich.table import Table

    from distill_queue.shared.extensions import extensions

    for added in extensions(kind):
        about = f"{known[added.name]}; and " if added.name in known else ""  # A spec with this name is refused.
        known = known | {added.name: about + added.about}
    if as_json:
        print_json(known)
        return
    table = Table.grid(padding=(0, 2))
    for name, about in known.items():
        table.add_row(name, about)
    console.print(table)
