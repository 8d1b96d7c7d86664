"""The main job: MNIST through the whole system, cold and warm, and through the notebook's loop; and Fashion-MNIST."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import main_job
from benchmarks.gpu import clothing
from benchmarks.gpu.section import Part, Section, Setting
from benchmarks.main_job import Figures, Job, process
from distill_queue.shared.spec.pipeline import PipelineSpec

SPEC = main_job.ROOT / "examples" / "mnist.yaml"
FASHION = main_job.ROOT / "examples" / "fashion-mnist.yaml"
#: Of the notebook's: it is the slowest by far, and each epoch is as the others.
NOTEBOOK_EPOCHS = 1


def measure(setting: Setting) -> Iterator[Part]:
    """Time ours, then the notebook, on the device; ours on Fashion-MNIST too, if it is here."""
    job, epochs = _job(SPEC, setting)
    notebook = ("--device", setting.device_type, "--epochs", str(NOTEBOOK_EPOCHS), "--mnist", str(setting.mnist))
    contenders: dict[str, tuple[int, Callable[[], Figures]]] = {
        "distill, warm": (epochs, lambda: main_job.warm(0, job)),
        "distill, cold": (epochs, lambda: main_job.cold(0, job)),
        "notebook": (NOTEBOOK_EPOCHS, lambda: process(sys.executable, "benchmarks.notebook", 0, *notebook)),
    }
    if setting.dry:
        del contenders["distill, cold"]
    elif clothing.provide(setting.mnist):
        fashion, fashion_epochs = _job(FASHION, setting)
        contenders["distill, warm, Fashion-MNIST"] = (fashion_epochs, lambda: main_job.warm(0, fashion))
    for name, (epochs_each, run) in contenders.items():
        figures = run()
        yield {
            "": name,
            "epochs": f"{epochs_each} + {epochs_each}",
            "teacher, s an epoch": figures["teacher_seconds"] / epochs_each,
            "student, s an epoch": figures["student_seconds"] / epochs_each,
            "whole, s": figures["whole_seconds"],
            "teacher, accuracy": f"{figures['teacher_accuracy']:.2%}",
            "student, accuracy": f"{figures['student_accuracy']:.2%}",
        }
    yield (
        f"{setting.mnist_is}; whole: cold from the start of the command to its end, warm from submitting to the "
        "results; ours with a control, three evaluations and a report; the notebook in batches of 64, ours of 256"
    )


def _job(path: Path, setting: Setting) -> tuple[Job, int]:
    """A spec as a job on the device, and the epochs of its trainings."""
    spec, warm_up = (setting.folder / f"{path.stem}{name}.json" for name in ("", "-warm-up"))
    data = PipelineSpec.load(path).model_dump(mode="json", exclude_unset=True)
    epochs = 1 if setting.dry else data["teacher"]["training"]["epochs"]
    spec.write_text(json.dumps(_with_epochs(data, epochs)))
    warm_up.write_text(json.dumps(_with_epochs(data, 1) | {"name": "warm-up"}))
    return Job(spec, warm_up, {"device": setting.queue}, setting.mnist), epochs


def _with_epochs(data: dict[str, Any], epochs: int) -> dict[str, Any]:
    models = [data["teacher"], *data["students"]]
    trained = [model | {"training": model["training"] | {"epochs": epochs}} for model in models]
    return data | {"teacher": trained[0], "students": trained[1:]}


SECTION = Section("main_job", "The main job", 120.0, measure)
