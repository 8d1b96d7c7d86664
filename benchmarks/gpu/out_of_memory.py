"""Out of memory: what a stage says that does not fit, before it starts, and where the estimate was wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.gpu.pipelines import spec, store
from benchmarks.gpu.section import Part, Row, Section, Setting
from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

#: Gigabytes that a stage may take by its settings, too few for the teacher.
FEW_GB = 0.02
#: What torch may allocate, of which the estimate knows nothing.
FEW_BYTES = 250_000_000


def measure(setting: Setting) -> Iterator[Part]:
    """Train a teacher with too little memory by the settings, then with too little in truth, then with enough."""
    folder = store(setting, "memory")
    runtime = Runtime(setting.device, downloads=folder / "downloads")
    yield _outcome("with too few gigabytes by DISTILL_MEMORY_GB", folder, replace(runtime, memory_gb=FEW_GB), setting)
    if setting.device_type == "cuda":
        torch.cuda.set_per_process_memory_fraction(FEW_BYTES / torch.cuda.get_device_properties(0).total_memory)
        try:
            yield _outcome("with fewer than the estimate knows of", folder, runtime, setting)
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    yield _outcome("with what there is", folder, runtime, setting)


def _outcome(what: str, folder: Path, runtime: Runtime, setting: Setting) -> Row:
    """What becomes of a teacher with a batch of all samples."""
    runner = StageRunner(FolderStore(folder), runtime, lambda *_: None)
    data, teacher = Plan.of(spec(setting, epochs=1, batch_size=2_048 if setting.dry else 60_000)).trunk[:2]
    if data.ref not in runner.store:
        StageRunner(runner.store, replace(runtime, memory_gb=0.0), lambda *_: None).run(data)
    try:
        runner.run(teacher)
    except StageFailed as error:
        one_line = "no" if "\n" in str(error) else "yes"
        return {"what": what, "outcome": "refused", "in one line": one_line, "words": str(error)}
    return {"what": what, "outcome": "trained"}


SECTION = Section("out_of_memory", "Out of memory", 25.0, measure)
