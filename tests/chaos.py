"""Chaos: pipelines under seeded faults on a real server and real workers, compared with an undisturbed run.

`python -m tests.chaos --seconds 180 --seed 0` prints a table of what was done to them and what was left of it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import redis
from rich.console import Console
from rich.table import Table

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from tests.acceptance.conftest import free_port

WORKERS = 3
#: Seconds: small ones, so that minutes of chaos have many recoveries in them.
VISIBILITY_SECONDS = 6.0
CHECKPOINT_SECONDS = 0.5
#: Seconds for which a disk is full: longer than all attempts of a stage would take, if they were counted.
FULL_SECONDS = 8.0, 25.0
#: Seconds after the last fault within which everything must be done.
DEADLINE_SECONDS = 600.0
#: Kinds whose files depend on nothing but their key; the report holds timings.
EXACT_KINDS = ("prepare_data", "train_teacher", "soft_labels", "distill", "train_control", "evaluate")

LEASE = re.compile(r"^\[([^\]]+?): [A-Z]+/\S+\] lease (\S+) (\S+) (taken|released for the dead|released|lost)")


@dataclass(slots=True)
class Outcome:
    """What a run of chaos found."""

    faults: Counter[str]
    states: Counter[str]
    #: Artifacts that differ from the undisturbed run's, of how many compared.
    different: list[str]
    compared: int
    #: Artifacts that were altered on purpose and found so.
    set_aside: int
    #: Times that a stage was taken while another live worker held it.
    double_holders: list[str]
    #: Seconds for which leases were held in this run and in the undisturbed one.
    held_seconds: float
    undisturbed_held_seconds: float
    seconds: float
    undisturbed_seconds: float
    leftovers: list[str]

    @property
    def survived(self) -> bool:
        """Whether nothing was lost, doubled or left over."""
        return set(self.states) == {"done"} and not (self.different or self.double_holders or self.leftovers)


def specs(pipelines: int, epochs: int) -> list[PipelineSpec]:
    """Pipelines of two students each; two of every three share a teacher with another one."""
    return [
        PipelineSpec.model_validate(
            {
                "name": f"chaos-{number}",
                "fuse": "auto" if number % 4 == 3 else "off",
                "dataset": {"name": "digits"},
                "teacher": {
                    "model": {"name": "mlp", "hidden": [64]},
                    "training": {"epochs": epochs, "batch_size": 16, "seed": number - number % 3 % 2},
                },
                "students": [
                    {
                        "name": f"t{temperature}",
                        "model": {"name": "mlp", "hidden": [8]},
                        "distillation": {"temperature": temperature, "alpha": 0.5},
                        "training": {"epochs": epochs // 2, "batch_size": 16, "seed": number},
                    }
                    for temperature in (2, 4)
                ],
            }
        )
        for number in range(pipelines)
    ]


def chaos(folder: Path, *, seconds: float, seed: int, pipelines: int = 12, epochs: int = 200) -> Outcome:
    """Run pipelines undisturbed, then in another store under faults, and compare."""
    todo = specs(pipelines, epochs)
    calm = _Run(folder / "calm", random.Random(seed))
    calm_seconds = calm.work(todo, 0.0)
    wild = _Run(folder / "wild", random.Random(seed))
    wild_seconds = wild.work(todo, seconds)
    different, compared = _compare(calm.store, wild.store, todo)
    damaged = folder / "wild" / "store" / "damaged"
    return Outcome(
        faults=wild.faults,
        states=wild.states,
        different=different,
        compared=compared,
        set_aside=len(list(damaged.iterdir())) if damaged.exists() else 0,
        double_holders=wild.double_holders(),
        held_seconds=wild.held_seconds(),
        undisturbed_held_seconds=calm.held_seconds(),
        seconds=wild_seconds,
        undisturbed_seconds=calm_seconds,
        leftovers=wild.leftovers,
    )


@dataclass(slots=True)
class _Run:
    """A server, workers, a store, and what is done to them."""

    folder: Path
    random: random.Random
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    leftovers: list[str] = field(default_factory=list)
    #: When workers were killed or paused: (seconds since the epoch, worker).
    hits: list[tuple[float, str]] = field(default_factory=list)
    #: What is to be undone, and when, on the monotonic clock.
    pending: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    logs: str = ""

    @property
    def store(self) -> FolderStore:
        return FolderStore(self.folder / "store")

    def work(self, todo: list[PipelineSpec], seconds: float) -> float:
        """Submit pipelines, disturb them for some time, wait for their ends, and look at what is left; seconds."""
        settings = Settings(
            broker_url=f"redis://127.0.0.1:{free_port()}/0",
            store=self.folder / "store",
            threads=1,
            visibility_timeout_seconds=VISIBILITY_SECONDS,
            checkpoint_seconds=CHECKPOINT_SECONDS,
            max_attempts=5,
            retry_seconds=DEADLINE_SECONDS,
        )
        started = time.monotonic()
        with LocalStack(settings, workers=WORKERS, server_folder=self.folder / "server") as stack:
            client = PipelineClient(settings)
            submitted = [client.submit(spec).id for spec in todo]
            self._disturb(stack, settings, seconds)
            self._await(stack, client, submitted)
            # What was altered and not read since is found by reading it; all is made again by asking for it again.
            self._await(stack, client, [client.submit(spec).id for spec in todo])
            took = time.monotonic() - started
            self.states.update(client.status(pipeline).state for pipeline in submitted)
            self._look_at_broker(settings)
            self.logs = "\n".join(child.log.read_text(errors="replace") for child in stack.children[1:])
        self._look_at_machine(settings)
        return took

    def _disturb(self, stack: LocalStack, settings: Settings, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        faults: list[tuple[str, Callable[[LocalStack, Settings], None]]] = [
            ("pool process killed (-9)", self._kill_child),
            ("pool process stopped (SIGSTOP) for good", self._freeze_child),
            ("worker killed (-9), all of it", self._kill_worker),
            ("worker's main process killed (-9)", self._kill_main),
            ("worker told to end (SIGTERM)", self._end_worker),
            ("worker paused (SIGSTOP), 1 to 12 s", self._pause),
            ("server restarted", self._restart_server),
            ("server killed (-9) and restarted", self._kill_server),
            ("all connections cut", self._cut),
            ("disk full for a worker, 8 to 25 s", self._fill_disk),
            ("byte of an artifact flipped", self._flip),
        ]
        while time.monotonic() < deadline:
            self._sleep(stack, self.random.uniform(1.0, 4.0))
            name, fault = self.random.choice(faults)
            try:
                fault(stack, settings)
            except (psutil.Error, redis.RedisError, IndexError, ValueError):
                continue  # What it wanted to hit is not there just now.
            self.faults[name] += 1
        while self.pending:
            self._sleep(stack, 0.1)

    def _sleep(self, stack: LocalStack, seconds: float) -> None:
        """Wait, undo what is due, and start again what died, as any supervisor would."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for due, undo in list(self.pending):
                if time.monotonic() >= due:
                    self.pending.remove((due, undo))
                    undo()
            for child in stack.children:
                if not child.alive:
                    child.start()
            time.sleep(0.05)

    def _await(self, stack: LocalStack, client: PipelineClient, submitted: list[str]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline:
            self._sleep(stack, 0.2)
            with suppress(BrokerUnavailable):
                if all(client.status(pipeline).finished for pipeline in submitted):
                    return

    def _worker(self, stack: LocalStack) -> Child:
        worker = self.random.choice(stack.children[1:])
        self.hits.append((time.time(), worker.name))
        return worker

    def _kill_child(self, stack: LocalStack, _settings: Settings) -> None:
        psutil.Process(self._worker(stack).pid).children()[0].kill()

    def _freeze_child(self, stack: LocalStack, _settings: Settings) -> None:
        psutil.Process(self._worker(stack).pid).children()[0].suspend()

    def _kill_worker(self, stack: LocalStack, _settings: Settings) -> None:
        os.killpg(_pid(self._worker(stack)), signal.SIGKILL)

    def _kill_main(self, stack: LocalStack, _settings: Settings) -> None:
        os.kill(_pid(self._worker(stack)), signal.SIGKILL)

    def _end_worker(self, stack: LocalStack, _settings: Settings) -> None:
        os.kill(_pid(self._worker(stack)), signal.SIGTERM)

    def _pause(self, stack: LocalStack, _settings: Settings) -> None:
        group = _pid(self._worker(stack))
        os.killpg(group, signal.SIGSTOP)

        def go_on() -> None:
            try:
                os.killpg(group, signal.SIGCONT)
            except ProcessLookupError:
                return

        self.pending.append((time.monotonic() + self.random.uniform(1.0, 2 * VISIBILITY_SECONDS), go_on))

    def _restart_server(self, stack: LocalStack, _settings: Settings) -> None:
        stack.children[0].ask_to_end()

    def _kill_server(self, stack: LocalStack, _settings: Settings) -> None:
        os.kill(_pid(stack.children[0]), signal.SIGKILL)

    def _cut(self, _stack: LocalStack, settings: Settings) -> None:
        with redis.Redis(**settings.broker.redis_options) as broker:
            broker.client_kill_filter(_type="normal", skipme=True)

    def _fill_disk(self, stack: LocalStack, _settings: Settings) -> None:
        child = psutil.Process(self._worker(stack).pid).children()[0]
        child.rlimit(psutil.RLIMIT_FSIZE, (1_000, -1))

        def make_room() -> None:
            if child.is_running():
                child.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))

        self.pending.append((time.monotonic() + self.random.uniform(*FULL_SECONDS), make_room))

    def _flip(self, _stack: LocalStack, settings: Settings) -> None:
        path = self.random.choice(sorted(path for path in settings.folder.glob("artifacts/*/*/*/*") if path.is_file()))
        data = bytearray(path.read_bytes())
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        path.write_bytes(data)

    def _look_at_broker(self, settings: Settings) -> None:
        with redis.Redis(**settings.broker.redis_options, decode_responses=True) as client:
            broker: Any = client
            for pattern in ("distill:lease:*", "distill:parked:*"):
                self.leftovers += broker.scan_iter(pattern)
            allowed = {"distill:pipelines", "unacked", "unacked_index", "unacked_mutex"}
            lasting = {key for key in broker.scan_iter() if broker.ttl(key) == -1} - allowed
            self.leftovers += sorted(key for key in lasting if not key.startswith("_kombu.binding"))

    def _look_at_machine(self, settings: Settings) -> None:
        for name in ("partial", "pipelines"):
            folder = settings.folder / name
            self.leftovers += [str(path) for path in folder.iterdir()] if folder.exists() else []
        for process in psutil.process_iter():
            try:
                if process.environ().get("DISTILL_STORE") == str(settings.folder):
                    self.leftovers.append(f"process {process.pid}: {' '.join(process.cmdline())}")
            except psutil.Error:
                continue

    def _leases(self) -> Iterator[tuple[float, str, str, str]]:
        """Each lease event in order: seconds since the epoch, key, holder, what happened."""
        events = []
        for line in self.logs.splitlines():
            if match := LEASE.match(line):
                when, key, holder, what = match.groups()
                events.append(
                    (datetime.strptime(when, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp(), key, holder, what)
                )
        yield from sorted(events)

    def _intervals(self) -> Iterator[tuple[str, str, float, float]]:
        """Each lease's key, holder, beginning and end: given up, lost, or its worker killed or paused."""
        ends = {(key, holder): when for when, key, holder, what in self._leases() if what in ("released", "lost")}
        for when, key, holder, what in self._leases():
            if what != "taken":
                continue
            name = holder.partition("@")[0]
            hit = min((time for time, worker in self.hits if worker == name and time >= when - 0.1), default=None)
            end = ends.get((key, holder))
            yield key, holder, when, min(value for value in (end, hit, when + 3600) if value is not None)

    def double_holders(self) -> list[str]:
        """Stages that were taken while another worker held them that was neither killed nor paused."""
        intervals = sorted(self._intervals(), key=lambda interval: interval[2])
        return [
            f"{key[:8]}: {holder} and {other}"
            for position, (key, holder, _, end) in enumerate(intervals)
            for other_key, other, beginning, _ in intervals[position + 1 :]
            if key == other_key and beginning < end
        ]

    def held_seconds(self) -> float:
        """Seconds for which leases were held, summed over all leases."""
        return sum(end - beginning for _, _, beginning, end in self._intervals())


def _pid(child: Child) -> int:
    if child.pid is None:
        raise ValueError(f"{child.name} was never started")
    return child.pid


def _compare(calm: FolderStore, wild: FolderStore, todo: list[PipelineSpec]) -> tuple[list[str], int]:
    plans = [Plan.of(spec) for spec in todo]
    stages: dict[str, Stage] = {stage.key: stage for plan in plans for stage in plan.stages}
    # What is stacked is the same to rounding only: a part of a bundle that is made again is made without the rest.
    bundles = [bundle for plan in plans for branch in plan.branches for bundle in branch if len(bundle) > 1]
    stacked = {stage.key for bundle in bundles for stage in bundle}
    exact = [stage for stage in stages.values() if stage.kind in EXACT_KINDS and stage.key not in stacked]
    different = []
    for stage in exact:
        files = [store.open(stage.ref).manifest.files for store in (calm, wild)]
        if files[0] != files[1]:
            different.append(stage.title)
    return different, len(exact)


def show(outcome: Outcome, console: Console) -> None:
    """Print the table."""
    table = Table(title=f"Chaos: {outcome.seconds:,.0f} s with faults, {outcome.undisturbed_seconds:,.0f} s without")
    table.add_column("fault or finding")
    table.add_column("count", justify="right")
    for name, count in sorted(outcome.faults.items()):
        table.add_row(name, str(count))
    table.add_section()
    for state, count in outcome.states.items():
        table.add_row(f"pipelines {state}", str(count))
    identical = outcome.compared - len(outcome.different)
    table.add_row("artifacts identical to the undisturbed run's", f"{identical} of {outcome.compared}")
    table.add_row("altered artifacts found and made again", str(outcome.set_aside))
    table.add_row("stages with two live lease holders", str(len(outcome.double_holders)))
    table.add_row("processes, leases, keys or files left over", str(len(outcome.leftovers)))
    again = outcome.held_seconds / outcome.undisturbed_held_seconds - 1
    table.add_row("seconds worked more than undisturbed", f"{again:.0%}")
    console.print(table)
    for problem in (*outcome.different, *outcome.double_holders, *outcome.leftovers):
        console.print(f"[red]{problem}")


def main() -> None:
    """Run chaos from the command line; exit code 1 where something did not survive."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="a new folder to keep stores and logs in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distill-chaos-") as temporary:
        outcome = chaos(arguments.keep or Path(temporary), seconds=arguments.seconds, seed=arguments.seed)
    show(outcome, Console(width=100))
    sys.exit(not outcome.survived)


if __name__ == "__main__":
    main()
