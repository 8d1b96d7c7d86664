"""Agreement: the same spec on the CPU and on the device, within what rounding explains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.gpu.pipelines import spec, store
from benchmarks.gpu.section import Part, Section, Setting
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.records import EvaluationRecord
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

EPOCHS = 3
#: Points of accuracy by which models may differ that took other roundings through all their steps.
TOLERANCE = 0.75
#: Share of the largest logit by which one model's logits may differ between the devices, in float32.
LOGIT_TOLERANCE = 1e-3


def measure(setting: Setting) -> Iterator[Part]:
    """Run all stages on both, in float32 and as `auto` says, and compare what the evaluations found."""
    for precision in ("float32",) if setting.dry else ("float32", "auto"):
        asked = spec(setting, epochs=1 if setting.dry else EPOCHS, precision=precision)
        scores, stores = [], []
        for name, device in (("cpu", torch.device("cpu")), ("device", setting.device)):
            runtime = Runtime(device, downloads=store(setting, f"{precision}-{name}") / "downloads")
            stores.append(FolderStore(runtime.downloads.parent))
            scores.append(_scores(Plan.of(asked), stores[-1], runtime))
        for who in scores[0]:
            difference = 100 * abs(scores[0][who] - scores[1][who])
            yield {
                "what": f"test accuracy, {who}",
                "precision": precision,
                "CPU": f"{scores[0][who]:.2%}",
                setting.device_type: f"{scores[1][who]:.2%}",
                "difference": f"{difference:.2f} points",
                "within": "yes" if difference <= TOLERANCE else "no",
            }
        if precision == "float32":
            error = _logit_difference(Plan.of(asked), stores[1], setting)
            yield {
                "what": "logits of one teacher, largest difference of the largest",
                "precision": precision,
                "difference": f"{error:.1e}",
                "within": "yes" if error <= LOGIT_TOLERANCE else "no",
            }


def _scores(plan: Plan, artifacts: FolderStore, runtime: Runtime) -> dict[str, float]:
    """Test accuracies by the evaluations' titles."""
    runner, found = StageRunner(artifacts, runtime, lambda *_: None), {}
    for stage in plan.stages:
        if stage.kind == "report":
            continue
        record = runner.run(stage).record
        if isinstance(record, EvaluationRecord):
            found[stage.title.removeprefix("evaluate ")] = record.accuracy
    return found


def _logit_difference(plan: Plan, artifacts: FolderStore, setting: Setting) -> float:
    """The largest difference of one trained teacher's logits on test samples, as a share of the largest logit."""
    data, teacher = plan.trunk[:2]
    logits = []
    for device in (torch.device("cpu"), setting.device):
        runner = StageRunner(artifacts, Runtime(device), lambda *_: None)
        inputs = {"dataset": artifacts.open(data.ref), "teacher": artifacts.open(teacher.ref)}
        context = runner.context(inputs, Path())
        model = context.model("teacher").eval()
        with torch.inference_mode():
            logits.append(model(context.split("test").normalised(slice(0, 1_000))).float().cpu())
    return ((logits[0] - logits[1]).abs().max() / logits[0].abs().max()).item()


SECTION = Section("agreement", "The same spec on the CPU and on the device", 70.0, measure)
