"""The commands beside many pipelines that wait and many artifacts: seconds, processor, memory, and where they go.

A part of `python -m benchmarks.scale`: `lists`.
"""

from __future__ import annotations

import hashlib
import os
import pstats
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.recipes import TrainTeacher
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.results.records import TrainingRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import MANIFEST, FileEntry, Manifest, Provenance

#: Bytes of an artifact's only file: listing does not read it.
FILE_BYTES = 1_000
#: Lines of a profile.
PROFILE_LINES = 12
#: Seconds between two looks at whether a command has ended.
LOOK_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command took."""

    command: str
    seconds: float
    #: Of its own process, start-up and all.
    processor_seconds: float
    peak_bytes: float

    @property
    def row(self) -> tuple[str, ...]:
        """As a row of the table."""
        processor, memory = f"{self.processor_seconds:.2f} s", f"{self.peak_bytes / 1e6:,.0f} MB"
        return f"`distill {self.command}`", f"{self.seconds:.2f} s", processor, memory


#: Of a table of costs.
COLUMNS = ("", "seconds", "processor", "memory")


def cost_of(settings: Settings, command: Sequence[str], rounds: int) -> Cost:
    """What a command takes, the best of some rounds."""
    costs = [_measured(settings, command) for _ in range(rounds)]
    return Cost(" ".join(command), *map(min, zip(*costs, strict=True)))


def _measured(settings: Settings, command: Sequence[str]) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and most bytes of memory."""
    started, done, peak_kilobytes = time.monotonic(), 0, 0
    process = subprocess.Popen([_DISTILL, *command], env=os.environ | settings.environment, stdout=subprocess.DEVNULL)
    while not done:
        with suppress(OSError, IndexError):  # Not the usage's: before it became the command, it was a copy of this one.
            facts = Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2]
            peak_kilobytes = max(peak_kilobytes, int(facts.split()[0]))
        time.sleep(LOOK_SECONDS)
        done, status, usage = os.wait4(process.pid, os.WNOHANG)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"error: distill {' '.join(command)} ended with {process.returncode}")
    return time.monotonic() - started, usage.ru_utime + usage.ru_stime, peak_kilobytes * 1024


def profile_of(settings: Settings, command: Sequence[str]) -> str:
    """The functions in which a command spends its time, start-up and all; to be measured apart, as this costs time."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(
            [sys.executable, "-m", "cProfile", "-o", file.name, _DISTILL, *command],
            env=os.environ | settings.environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        text = StringIO()
        pstats.Stats(file.name, stream=text).strip_dirs().sort_stats("tottime").print_stats(PROFILE_LINES)
    return text.getvalue().partition("Ordered by")[2].partition("\n\n")[2].rstrip()


def fill(store: FolderStore, first: int, last: int) -> None:
    """Put teachers of some seeds into a store: whole artifacts, as workers commit them, but not synced to the disk."""
    data, teacher = Plan.of(PipelineSpec.model_validate(_SPEC)).trunk[:2]
    if not isinstance(teacher.recipe, TrainTeacher):
        raise TypeError
    content = bytes(FILE_BYTES)
    files = {"model.safetensors": FileEntry(size_bytes=FILE_BYTES, sha256=hashlib.sha256(content).hexdigest())}
    record = TrainingRecord(
        parameters=250, epochs=1, kept_epoch=1, steps=1, loss=1.0, train_accuracy=0.5, held_out_accuracy=None,
        seconds=1.0, together=1, precision="float32",
    )  # fmt: skip
    made = Provenance(host="somewhere", device="cpu", versions={"python": "3.11"})
    for seed in range(first, last):
        training = teacher.recipe.training.model_copy(update={"seed": seed})
        stage = Stage.of("train teacher", teacher.recipe.model_copy(update={"training": training}), dataset=data.ref)
        manifest = Manifest(
            kind=stage.kind, key=stage.key, stage=stage, files=files, record=record, provenance=made, seconds=1.0,
            created=1.7e9 + seed,
        )  # fmt: skip
        folder = store.folder(stage.ref)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(content)
        (folder / MANIFEST).write_text(manifest.sealed().model_dump_json(indent=1))


_DISTILL = str(Path(sys.executable).with_name("distill"))
_MLP = {"name": "mlp", "hidden": [16]}
_SPEC = {"name": "teachers", "teacher": {"model": _MLP}, "students": [{"name": "small", "model": _MLP}]}
