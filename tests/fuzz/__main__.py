"""Fuzzing: seeded inputs that are nearly right, given to each entrance of the project.

`python -m tests.fuzz [TARGET …] --inputs 10000 --seed 0` prints a table of what was found; each input that finds
something is kept in `.fuzz/`, and `--replay FILE` gives it to its target again. Only errors of the project's own may
come out of a target, none may take above a second of the processor or 200 MB, and nothing may be changed outside of the
target's folder.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import select
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import Console

from tests.fuzz.guard import HANGS_SECONDS, Guard
from tests.fuzz.targets import TARGETS, Target, emptied

KEPT = Path(".fuzz")
#: Where inputs lie that are given as files: in memory, where there is such a folder, as there are many.
SCRATCH = next((name for name in ("/dev/shm",) if Path(name).is_dir()), None)
#: Inputs of one kind that are kept.
MOST_KEPT = 3
BY_NAME = {target.name: target for target in TARGETS}


@dataclass(slots=True)
class Outcome:
    """What was found at a target."""

    inputs: int = 0
    #: Of the processor.
    seconds: float = 0.0
    #: How many inputs found the same, by its kind.
    findings: Counter[str] = field(default_factory=Counter)
    #: Of each kind, the file of the first input and what it led to.
    first: dict[str, tuple[str, str]] = field(default_factory=dict)

    def note(self, kind: str, where: str, detail: str) -> None:
        """Count a finding."""
        self.findings[kind] += 1
        self.first.setdefault(kind, (where, detail))


def main() -> None:
    """Run all targets or some, or one input again."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz the entrances of the project.")
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=f"Of {', '.join(BY_NAME)}; all without.")
    parser.add_argument("--inputs", type=int, default=10_000, help="Inputs of each target.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="Targets at a time.")
    parser.add_argument("--replay", type=Path, help="Give a target this file alone: its name says which.")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help="The number of the first input; --inputs ends them.")
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := [name for name in given.targets if name not in BY_NAME]:
        parser.error(f"no target '{unknown[0]}': there are {', '.join(BY_NAME)}")
    names = given.targets or list(BY_NAME)
    if given.replay:
        sys.exit(_replay(given.replay))
    if given.child:
        _be_child(names, given.start, given.inputs, given.seed, given.place, given.first)
        return
    console = Console(emoji=False, highlight=False, markup=False, soft_wrap=True)
    shares = [names[first :: given.jobs] for first in range(min(given.jobs, len(names)))]
    with ThreadPoolExecutor(given.jobs) as pool:
        runs = [Run(share, given.inputs, given.seed, given.start, partial(_tell, console)) for share in shares]
        found = any(list(pool.map(Run.end, runs)))
    sys.exit(found)


def input_of(target: Target, examples: list[bytes], seed: int, number: int) -> bytes:
    """The input of a number: the same on every machine."""
    generator = random.Random(f"{seed} {target.name} {number}")
    try:
        return target.make(generator, examples)
    except RecursionError:  # Nested deeper than Python's own writers go.
        return generator.choice(examples)


@dataclass(slots=True)
class Run:
    """So many inputs, given to each of some targets in a child, which is begun anew where one takes it along."""

    names: list[str]
    inputs: int
    seed: int
    start: int
    tell: Callable[[str, Outcome], None]
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def end(self) -> bool:
        """Go through all of them; whether anything is found."""
        left, start = self.names, self.start
        with tempfile.NamedTemporaryFile("w+") as place:
            while True:
                place.truncate(0)
                options = [
                    f"--inputs={self.inputs}",
                    f"--seed={self.seed}",
                    f"--start={start}",
                    f"--first={self.start}",
                ]
                command = [sys.executable, "-m", "tests.fuzz", *left, *options, "--child", f"--place={place.name}"]
                with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
                    self._hear(child)
                if child.returncode == 0:
                    return any(outcome.findings for outcome in self.outcomes.values())
                at, number = _place_in(Path(place.name)) or sys.exit("the targets cannot be prepared")
                again = f"python -m tests.fuzz {at} --seed {self.seed} --start {number} --inputs {number + 1}"
                self._of(at).note(f"exit {child.returncode}", again, "The process ended with this input.")
                left, start = left[left.index(at) :], number + 1
                if start >= self.inputs:
                    self.tell(at, self._of(at))

    def _hear(self, child: subprocess.Popen[str]) -> None:
        """Take in what a child says, and kill it where it says nothing for too long."""
        assert child.stdout
        while True:
            if not select.select([child.stdout], [], [], 2 * HANGS_SECONDS + 60)[0]:
                child.kill()
            if not (line := child.stdout.readline()):
                return
            said = json.loads(line)
            outcome = self._of(said["target"])
            outcome.seconds += said["seconds"]
            outcome.inputs = said["number"]
            if kind := said.get("kind"):
                outcome.note(kind, said["path"], said["detail"])
            if said["number"] >= self.inputs:
                self.tell(said["target"], outcome)

    def _of(self, name: str) -> Outcome:
        return self.outcomes.setdefault(name, Outcome())


def _tell(console: Console, name: str, outcome: Outcome) -> None:
    """Print what was found at a target."""
    found = outcome.findings.total()
    console.print(f"{name:20} {outcome.inputs:8,} inputs {outcome.seconds:7.1f} s {found:6,} findings")
    for kind, count in outcome.findings.most_common():
        where, detail = outcome.first[kind]
        console.print(f"\n{name}: {kind} ({count:,} inputs, the first one: {where})\n{detail}")


def _place_in(path: Path) -> tuple[str, int] | None:
    """The target and the input that a child was at; None before the first."""
    name, _, number = path.read_text().partition(" ")
    return (name, int(number)) if number else None


def _be_child(names: list[str], start: int, inputs: int, seed: int, place: Path, first: int) -> None:
    """Run targets in this process, and say on standard output what comes of it, as a line of JSON each."""
    logging.disable()
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        examples = {name: list(BY_NAME[name].examples(emptied(Path(scratch, f"of {name}")))) for name in names}
        for name in names:  # Loads what the targets need, before anything is measured.
            for example in examples[name]:
                _try(BY_NAME[name], example, Path(scratch, "input"))
        guard, kept = Guard(Path(scratch)), Counter[str]()
        for name in names:
            target = BY_NAME[name]
            began = time.process_time()
            for number in range(start, inputs):
                place.write_text(f"{name} {number}")
                data = input_of(target, examples[name], seed, number)
                folder = Path(scratch, "input")
                finding = guard.run(partial(_feed, target, data, folder))
                said: dict[str, object] = {"target": name, "number": number + 1}
                if finding:
                    path = KEPT / f"{name}-{seed}-{number}"
                    kept[finding.kind] += 1
                    if kept[finding.kind] <= MOST_KEPT:
                        KEPT.mkdir(exist_ok=True)
                        path.write_bytes(data)
                    said |= {"kind": finding.kind, "detail": finding.detail, "path": str(path)}
                if finding or number % 100 == 99 or number + 1 == inputs:
                    _say(said | {"seconds": time.process_time() - began})
                    began = time.process_time()
            start = first


def _replay(path: Path) -> int:
    """Give a file to its target again; whether something is found."""
    target = BY_NAME[path.name.rsplit("-", 2)[0]]
    with tempfile.TemporaryDirectory(dir=SCRATCH) as scratch:
        examples = target.examples(emptied(Path(scratch, "examples")))
        _try(target, examples[0], Path(scratch, "input"))
        guard = Guard(Path(scratch))
        finding = guard.run(partial(_feed, target, path.read_bytes(), Path(scratch, "input")))
    sys.stdout.write(f"{finding.kind}\n{finding.detail}\n" if finding else "nothing is found\n")
    return int(finding is not None)


def _say(words: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _feed(target: Target, data: bytes, folder: Path) -> None:
    target.feed(data, emptied(folder))


def _try(target: Target, data: bytes, folder: Path) -> None:
    try:
        target.feed(data, emptied(folder))
    except Exception as error:
        logging.getLogger(__name__).debug("%s: %s", target.name, error)


if __name__ == "__main__":
    main()
