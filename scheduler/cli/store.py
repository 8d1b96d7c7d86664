"""The `distill store` commands: list the artifact store, verify it, and remove what no pipeline needs."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill_queue.scheduler.cli.options import AsJson
from distill_queue.scheduler.terminal.output import Terminal, print_json, print_json_list
from distill_queue.shared.exit_code import ExitCode

if TYPE_CHECKING:
    from distill_queue.scheduler.maintenance.inventory import Holding, Verdict
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.pieces import Piece, Removal
    from distill_queue.shared.store.store import ArtifactStore

app = typer.Typer(
    help="List what the artifact store holds, verify it, and remove what no pipeline needs.", no_args_is_help=True
)


@app.command("ls")
def list_command(
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="Only artifacts of one kind, such as train_teacher.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the artifacts, and which pipelines need them."""
    from distill_queue.scheduler.maintenance.inventory import holdings
    from distill_queue.shared.errors import BrokerUnavailable
    from distill_queue.shared.settings import Settings

    settings = Settings.load()
    store = _store(settings)
    try:
        needed, note = _needed(settings, store), ""
    except BrokerUnavailable:
        needed, note = (
            _needed(settings, store, without_broker=True),
            "no broker answers: only pipelines in the store are known",
        )
    found = holdings(store, needed, kind)
    apart = {name: store.bytes_below(name) for name in ("partial", "damaged", "trash")}
    if as_json:
        sizes_apart = {f"{name}_bytes": size for name, size in apart.items()}
        print_json_list((each.facts for each in found), lambda page: {"artifacts": page, **sizes_apart})
        return
    console = _console()
    if found:
        _print_holdings(found)
    sizes = Counter[str]()
    for each in found:
        sizes[each.ref.kind] += each.size_bytes
    console.print(f"{store}: {len(found):,} artifacts, {_amount(sizes.total())}{_by_kind(sizes)}")
    for name, size in apart.items():
        if size:
            console.print(f"{name}/: {_amount(size)}")
    if note:
        console.print(note)


@app.command()
def verify(
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]…", help="Beginnings of keys; all without.")] = None,
    set_aside: Annotated[
        bool, typer.Option("--set-aside", help="Move damaged artifacts to damaged/, so that they are made again.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Read every byte of the artifacts and compare it with the manifests; ends with 1 if anything is damaged."""
    from rich.progress import Progress

    from distill_queue.scheduler.maintenance.inventory import named, verdict_on
    from distill_queue.shared.settings import Settings

    store = _store(Settings.load())
    wanted = named(store, keys or ())
    console = _console()
    verdicts: list[Verdict] = []
    with Progress(console=_console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        total = sum(size for _, size in wanted)
        task = progress.add_task("reading", total=total)
        for ref, size in wanted:
            if verdict := verdict_on(store, ref):
                verdicts.append(verdict)
                goes = set_aside and verdict.state == "damaged"
                if goes:
                    store.set_aside(ref)
                if not as_json and (verdict.detail or verdict.bad):
                    console.print(_verdict_line(verdict) + (" (set aside)" if goes else ""))
            progress.advance(task, size)
    if as_json:
        print_json([_verdict_facts(verdict) for verdict in verdicts])
    else:
        states = Counter(verdict.state for verdict in verdicts)
        counts = "".join(f", {count} {state}" for state, count in sorted(states.items()) if state != "whole")
        console.print(f"{len(verdicts):,} artifacts, {_amount(total)} read: {states['whole']} whole{counts}")
    if any(verdict.bad for verdict in verdicts):
        raise typer.Exit(ExitCode.BADLY)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    keep_days: Annotated[
        float, typer.Option(min=0.0, max=36_500.0, help="Keep what was used in the last N days, needed or not.")
    ] = 30.0,
    without_broker: Annotated[
        bool, typer.Option("--without-broker", help="Keep only what unfinished pipelines in the store need.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no pipeline needs, if it was not used for some time."""
    from distill_queue.scheduler.maintenance.garbage import Garbage
    from distill_queue.shared.errors import BrokerUnavailable, InvalidSettings
    from distill_queue.shared.settings import Settings

    if not (dry_run or yes or sys.stdin.isatty()):
        raise InvalidSettings("there is no terminal to ask at: give --dry-run to look, or --yes to remove")
    settings = Settings.load()
    store = _store(settings)
    look = partial(_needed, settings, store, without_broker=without_broker)
    garbage = Garbage(store, look, keep_days * 86_400)
    try:
        if not dry_run:
            garbage.clear_trash()
        pieces = garbage.find()
    except BrokerUnavailable as error:
        advice = "to ignore pipelines that only the broker knows, give --without-broker"
        raise BrokerUnavailable(f"{error}; {advice}") from None
    if not as_json:
        _tell(pieces, keep_days)
    agreed = not dry_run and bool(pieces) and (yes or typer.confirm("Remove all of it?", err=True))
    removal = garbage.remove(pieces) if agreed else None
    if as_json:
        print_json(_removal_facts(pieces, removal))
    elif removal:
        back = f", {len(removal.put_back)} put back, as they are needed now" if removal.put_back else ""
        _console().print(f"Removed {_amount(sum(piece.size_bytes for piece in removal.removed))}{back}")


def _store(settings: Settings) -> ArtifactStore:
    """The store of the settings, whose folder need not exist yet."""
    from distill_queue.shared.errors import StoreUnavailable, store_errors
    from distill_queue.shared.store.store import store_of

    with store_errors(settings.folder):
        is_none = settings.folder.exists() and not settings.folder.is_dir()
    if is_none:
        raise StoreUnavailable(f"store: {settings.folder}: not a folder: set DISTILL_STORE to one")
    return store_of(settings)


def _needed(settings: Settings, store: ArtifactStore, *, without_broker: bool = False) -> NeededArtifacts:
    """The artifacts that pipelines need now."""
    from distill_queue.scheduler.maintenance.needed_artifacts import NeededArtifacts
    from distill_queue.shared.broker.connection import connect
    from distill_queue.shared.ledger.ledger import Ledger
    from distill_queue.shared.store.submissions import Submissions

    ledger = None if without_broker else Ledger(connect(settings), settings.history_seconds)
    return NeededArtifacts.now(ledger, Submissions(store))


def _print_holdings(holdings: Sequence[Holding]) -> None:
    from distill_queue.scheduler.cli.options import console
    from distill_queue.scheduler.terminal.listing import Column, print_listing, width_of

    columns = (
        Column("kind"),
        Column("key"),
        Column("title", folds=True),
        Column("size", right=True),
        Column("made"),
        Column("on", folds=True),
        Column("took", right=True),
        Column("needed by", folds=True),
    )
    for row in map(_row, holdings):  # Made as they are printed: all rows take more memory than the holdings.
        for column, cell in zip(columns, row, strict=True):
            column.width = max(column.width, width_of(cell))
    print_listing(console, columns, map(_row, holdings))


def _row(holding: Holding) -> tuple[str, ...]:
    first, others = holding.pipelines[:1], len(holding.pipelines) - 1
    return (
        holding.ref.kind,
        holding.ref.short_key,
        holding.title,
        _amount(holding.size_bytes),
        "" if holding.created is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(holding.created)),
        holding.host,
        "" if not holding.seconds else f"{holding.seconds:,.1f} s",
        "".join(first) + (f" +{others}" if others > 0 else ""),
    )


def _verdict_line(verdict: Verdict) -> str:
    return f"{verdict.ref.kind}/{verdict.ref.short_key}: {verdict.state}{verdict.detail and f': {verdict.detail}'}"


def _verdict_facts(verdict: Verdict) -> dict[str, str]:
    return {"kind": verdict.ref.kind, "key": verdict.ref.key, "state": verdict.state, "detail": verdict.detail}


def _tell(pieces: list[Piece], keep_days: float) -> None:
    """Print what is to be removed: how much of each kind."""
    console = _console()
    if not pieces:
        console.print(
            f"Nothing to remove: all is needed by pipelines, or was used in the last {keep_days:g} days (--keep-days)"
        )
        return
    console.print(f"Needed by no pipeline, and not used in the last {keep_days:g} days:")
    groups: dict[str, list[int]] = {}
    for piece in pieces:
        groups.setdefault(f"{piece.what} {piece.kind}".strip(), []).append(piece.size_bytes)
    for name, sizes in groups.items():
        console.print(f"  {name}: {len(sizes):,}, {_amount(sum(sizes))}")
    console.print(f"  in all: {len(pieces):,}, {_amount(sum(piece.size_bytes for piece in pieces))}")


def _removal_facts(pieces: list[Piece], removal: Removal | None) -> dict[str, Any]:
    gone = removal.removed if removal else ()
    return {
        "found": [piece.facts for piece in pieces],
        "removed": [piece.facts for piece in gone],
        "put_back": [piece.facts for piece in (removal.put_back if removal else ())],
        "removed_bytes": sum(piece.size_bytes for piece in gone),
    }


def _by_kind(sizes: Counter[str]) -> str:
    return f" ({', '.join(f'{kind} {_amount(size)}' for kind, size in sizes.items())})" if sizes else ""


def _amount(size_bytes: int) -> str:
    """A number of bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= factor / 10:
            return f"{size_bytes / factor:,.1f} {unit}"
    return f"{size_bytes / 1e3:,.1f} kB"


def _console(*, stderr: bool = False) -> Terminal:
    return Terminal(soft_wrap=True, stderr=stderr)
