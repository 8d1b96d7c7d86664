"""The commands while many pipelines wait, or many artifacts lie there. A part of `python -m benchmarks.scale`."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.lists import COLUMNS, cost_of, fill, profile_of
from benchmarks.queue_server import SPEC, print_table, queue_server
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore

#: Rounds of a command that lists; the best one counts.
ROUNDS_OF_LISTS = 3


def waiting(options: argparse.Namespace) -> None:
    """The commands while many pipelines wait."""
    with queue_server() as (settings, server, _):
        client, spec = PipelineClient(settings), PipelineSpec.load(SPEC)
        before = server.info("memory")["used_memory"]
        started = time.monotonic()
        for _number in range(options.pipelines):
            client.submit(spec)
        each = (time.monotonic() - started) / options.pipelines
        memory = (server.info("memory")["used_memory"] - before) / options.pipelines
        newest = client.ids()[0]
        commands = (["submit", str(SPEC)], ["plan", str(SPEC)], ["status"], ["status", newest], ["workers"])
        rows = [
            (f"`distill {command[0]}{' ID' if newest in command else ''}`", f"{_command(settings, command):.2f} s")
            for command in commands
        ]
    rows.append(("submitting one from Python", f"{each * 1e3:.1f} ms"))
    rows.append(("server's memory for one", f"{memory / 1e3:.1f} kB"))
    print_table(f"{options.pipelines:,} pipelines wait", ("", ""), rows)


def lists(options: argparse.Namespace) -> None:
    """The commands that list or look through many pipelines, and those that list many artifacts."""
    with queue_server() as (settings, _, _):
        client, spec = PipelineClient(settings), PipelineSpec.load(SPEC)
        pipelines = [client.submit(spec).id for _number in range(options.listed)]
        every = ["-n", str(options.listed)]
        _print_costs(
            f"{options.listed:,} pipelines wait",
            settings,
            (
                ["status"],
                ["status", *every],
                ["status", *every, "--json"],
                ["status", pipelines[0]],
                ["workers"],
                ["queues"],
                ["logs", pipelines[0]],
                ["cancel", pipelines[0]],
                ["doctor"],
                ["recover"],
                ["store", "ls"],
                ["store", "gc", "--dry-run"],
            ),
            profiled=options.profile,
        )
    with queue_server() as (settings, _, _):
        store, there = FolderStore(settings.folder), 0
        for artifacts in options.artifacts:
            fill(store, there, artifacts)
            there = artifacts
            commands = (["store", "ls"], ["store", "ls", "--json"], ["store", "gc", "--dry-run", "--keep-days", "0"])
            _print_costs(f"{artifacts:,} artifacts", settings, commands, profiled=options.profile)


def _print_costs(title: str, settings: Settings, commands: Sequence[list[str]], *, profiled: bool) -> None:
    print_table(title, COLUMNS, [cost_of(settings, command, ROUNDS_OF_LISTS).row for command in commands])
    for command in commands if profiled else ():
        print(f"\n`distill {' '.join(command)}`\n\n```\n{profile_of(settings, command)}\n```", flush=True)


def _command(settings: Settings, command: list[str]) -> float:
    """Seconds of a command, the fastest of three."""
    times = []
    for _ in range(3):
        started = time.monotonic()
        subprocess.run(
            [Path(sys.executable).with_name("distill"), *command],
            env=os.environ | settings.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        times.append(time.monotonic() - started)
    return min(times)
