"""The workplace of a section: a store that is kept between two runs, and the digits."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.gpu import digits
from benchmarks.main_job import DISTILL
from benchmarks.reproduce.figures import ROOT, Outcome, Student, teacher_of
from distill_queue.shared.frozen import Frozen
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.data.sources import idx

#: Ignored by git. What is in it is not computed again: a run that was interrupted goes on.
STORE = ROOT / ".reproduce"
LIBRARIES = ("torch", "torchvision", "numpy")


class Spent(Frozen):
    """What a spec took in all of its runs, and when something of it was last computed."""

    seconds: float
    date: str


@dataclass(frozen=True, slots=True)
class Workplace:
    """A store, in whose folder of downloads MNIST lies where it was found on this machine."""

    store: Path = STORE
    #: Variables that the command gets beside those of this process.
    environment: dict[str, str] = field(default_factory=dict)

    def set_up(self) -> None:
        """Make the store; without MNIST's files on this machine, torchvision downloads them."""
        self.store.mkdir(exist_ok=True)
        place, here = digits.found(), self.store / "downloads" / "MNIST"
        if place and not idx.find(here):
            here.mkdir(parents=True, exist_ok=True)
            for file in idx.find(place) or ():
                (here / file.name).symlink_to(file.absolute())

    def run(self, spec: Path, *changes: str) -> tuple[PipelineResults, Outcome]:
        """Run a spec by `distill run`, with changes; what the store has is found, and keeps its date and minutes."""
        place = str(spec.relative_to(ROOT))
        loaded = PipelineSpec.load(spec, changes)
        key = Plan.of(loaded).report.key
        before = set(self._results(loaded.name))
        started = time.monotonic()
        try:
            done = subprocess.run(
                [*DISTILL, "run", str(spec), *(word for change in changes for word in ("--set", change))],
                env=os.environ | {"DISTILL_STORE": str(self.store)} | self.environment,
                cwd=ROOT,
                check=False,
            )
        finally:
            seconds = time.monotonic() - started
            spent = self._spend(key, seconds)
        if done.returncode:
            raise SystemExit(f"error: {place} ended badly; the next run goes on from here")
        (path,) = set(self._results(loaded.name)) - before
        results = PipelineResults.read(path.read_bytes(), path.name)
        if all(stage.outcome == "found" for stage in results.stages):  # Nothing was measured anew.
            spent = self._spend(key, -seconds)
        else:
            spent = self._spend(key, 0.0, today())
        outcome = Outcome.model_validate(
            {
                "name": spec.stem,
                "spec": place,
                "key": key,
                "command": f"distill run {place}",
                "date": spent.date,
                "machine": machine(),
                "versions": versions(),
                "minutes": round(spent.seconds / 60, 2),
                "students": tuple(Student.of(score) for score in results.scores.students),
                **teacher_of(results),
            }
        )
        return results, outcome

    def _results(self, pipeline: str) -> list[Path]:
        """Results of a pipeline of this name: another section may run beside it."""
        return list((self.store / "reports").glob(f"{pipeline}-*.json"))

    def _spend(self, key: str, seconds: float, date: str = "") -> Spent:
        """Add seconds to those that a spec took in all of its runs, also the interrupted ones."""
        path = self.store / "spent.json"
        entries = json.loads(path.read_text()) if path.is_file() else {}
        before = Spent.model_validate(entries.get(key, {"seconds": 0.0, "date": today()}))
        spent = Spent(seconds=before.seconds + seconds, date=date or before.date)
        path.write_text(json.dumps(entries | {key: spent.model_dump()}, indent=1))
        return spent


def today() -> str:
    """The date as the pages write it."""
    return time.strftime("%Y-%m-%d")


def machine() -> str:
    """The machine in a few words."""
    return f"{os.cpu_count()} cores, {platform.machine()}"


def versions() -> dict[str, str]:
    """The versions that figures depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}
