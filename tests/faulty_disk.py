"""A disk that fails at one call: does every kind of stage say that the store does not work, and do well the next time?

`python -m tests.faulty_disk --points 1000` looks at up to so many calls of each kind. It needs a C compiler.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill_queue.shared.errors import Unavailable
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef, Stage
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore

#: What a disk says of any call, and what it says of those that write.
OF_ALL = (errno.EIO, errno.ESTALE)
OF_WRITES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
#: Larger than the number of any call.
NEVER = 1_000_000_000

TRAINING = {"epochs": 1, "batch_size": 512}


def build(folder: Path) -> Path:
    """Compile the library that is to be preloaded.

    Raises:
        FileNotFoundError: there is no compiler.

    """
    library = folder / "faulty_disk.so"
    source = Path(__file__).with_suffix(".c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"], check=True)
    return library


def look(library: Path, points: int, seed: int) -> subprocess.CompletedProcess[str]:
    """Look in a process of its own; it prints what went wrong and fails."""
    command = [sys.executable, "-m", "tests.faulty_disk", "--points", str(points), "--seed", str(seed)]
    environment = os.environ | {"LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def specs() -> list[PipelineSpec]:
    """Pipelines that have a stage of every kind but those of given teachers."""
    student = {"name": "s", "model": {"name": "mlp", "hidden": [4]}, "training": TRAINING}
    teachers = [{"model": {"name": "mlp", "hidden": [width]}, "training": TRAINING} for width in (8, 6)]
    grid = student | {"distillation": {"temperature": {"grid": [1, 4]}}}
    data = {"name": "digits", "validation": 0.2}
    return [PipelineSpec.of({"name": "two", "dataset": data, "teachers": teachers, "students": [grid]})]


def problems(root: Path, points: int, seed: int) -> Iterator[str]:
    """What goes wrong where a call fails: another error than that the store does not work, or other files after it."""
    from distill_queue.worker.machine import libraries

    libraries.set_up()
    faults = ctypes.CDLL(os.environ["LD_PRELOAD"])
    faults.fault_arm.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
    faults.fault_last.restype = ctypes.c_char_p
    choose, seen = random.Random(seed), set()
    store = FolderStore(root / "store")
    for stage in (stage for spec in specs() for stage in Plan.of(spec).stages):
        faults.fault_arm(bytes(store.root), 0, NEVER, 0, 0)
        good = _do(store, stage)
        calls, new = faults.fault_seen(), stage.kind not in seen
        seen.add(stage.kind)
        for call in choose.sample(range(1, calls + 1), min(points, calls)) if new else ():
            number, writes = choose.choice([(each, 0) for each in OF_ALL] + [(each, 1) for each in OF_WRITES])
            _forget(store, stage.ref)
            faults.fault_arm(bytes(store.root), number, call, choose.randrange(2), writes)
            try:
                _do(store, stage)
            except Unavailable:
                pass
            except Exception as error:
                yield f"{stage.kind}: {errno.errorcode[number]} of {faults.fault_last()!r}: {error!r}"
            faults.fault_disarm()
            found = _do(store, stage)
            if stage.kind not in ("evaluate", "report") and found != good:  # Those hold timings.
                yield f"{stage.kind}: other files after {errno.errorcode[number]} of {faults.fault_last()!r}"
        faults.fault_disarm()


def _do(store: FolderStore, stage: Stage) -> dict[str, str]:
    """Find a stage's artifact or make it, as a new process would; the hashes of its files."""
    import torch

    from distill_queue.worker.machine.runtime import Runtime
    from distill_queue.worker.stages.runner import StageRunner

    store = FolderStore(store.root)
    found = store.find(stage.ref)
    if found is None:
        for ref in stage.inputs.values():
            store.obtain(ref)
        runner = StageRunner(store, Runtime(torch.device("cpu")), lambda *_: None, checkpoint_seconds=0.0)
        found = runner.run(stage)
        store.forget_partial(stage.ref)
    return {name: entry.sha256 for name, entry in found.manifest.files.items()}


def _forget(store: FolderStore, ref: ArtifactRef) -> None:
    shutil.rmtree(store.folder(ref))
    shutil.rmtree(store.root / "partial", ignore_errors=True)


def main() -> None:
    """Look, in this process if the library is loaded; exit code 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    arguments: Any = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="distill-faulty-") as folder:
        if "faulty_disk" not in os.environ.get("LD_PRELOAD", ""):
            done = look(build(Path(folder)), arguments.points, arguments.seed)
            sys.stdout.write(done.stdout + done.stderr)
            sys.exit(done.returncode)
        found = list(problems(Path(folder), arguments.points, arguments.seed))
    sys.stdout.write("".join(f"{problem}\n" for problem in found))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
