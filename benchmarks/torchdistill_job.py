"""The main job as users of torchdistill write it: its boxes, its losses, its cache of the teacher's outputs.

It needs an environment of its own with torchdistill 1.1.4, the last version that has the cache. With `--uncached` the
teacher's forward pass is in every student step instead, as in torchdistill's own example configurations.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset, RandomSampler
from torchdistill.common.main_util import set_seed
from torchdistill.core.distillation import DistillationBox, get_distillation_box
from torchdistill.core.training import TrainingBox, get_training_box

from benchmarks.main_job import SPEC
from benchmarks.notebook import accuracy, loaders
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.model import ModelSpec
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.spec.teacher import TeacherSpec
from distill_queue.shared.spec.training import TrainingSpec
from distill_queue.worker.models import Mlp

#: Processes that read samples ahead of the training.
READERS = 0
#: One part of a configuration, as torchdistill reads it from YAML.
Config = dict[str, Any]


def main() -> None:
    """Run the job with the seed of the command line, and print its seconds and accuracies as JSON."""
    spec = PipelineSpec.load(SPEC)
    with tempfile.TemporaryDirectory() as folder:
        set_seed(int(sys.argv[1]))
        cache = None if "--uncached" in sys.argv else Path(folder) / "cache"
        train, test = loaders(Path(folder))
        given, learner = models_of(spec)
        teacher = mlp(given.model)
        started = time.monotonic()
        train_teacher(teacher, train.dataset, given.training)
        teacher_trained = time.monotonic()
        student = mlp(learner.model)
        distill(student, teacher, train.dataset, learner, cache)
        student_trained = time.monotonic()
        figures = {
            "teacher_seconds": teacher_trained - started,
            "student_seconds": student_trained - teacher_trained,
            "teacher_accuracy": accuracy(teacher, test),
            "student_accuracy": accuracy(student, test),
        }
        if cache is not None:
            require_files(cache)
    print(json.dumps(figures))


def models_of(spec: PipelineSpec) -> tuple[TeacherSpec, StudentSpec]:
    """The teacher and the student of the spec."""
    teacher, student = spec.teacher, spec.students[0]
    if not isinstance(teacher, TeacherSpec) or not isinstance(student, StudentSpec):
        raise SystemExit("error: the spec must have one teacher, and a student without a grid")
    return teacher, student


def mlp(spec: ModelSpec) -> nn.Module:
    """A model of the spec for 28 x 28 pixels and 10 classes."""
    if not isinstance(spec, MlpSpec):
        raise SystemExit(f"error: {spec.name} is no mlp")
    return Mlp(784, spec.hidden, 10)


def train_teacher(teacher: nn.Module, images: Dataset[Any], training: TrainingSpec) -> None:
    """Cross-entropy, in torchdistill's training box."""
    config = training_config(training, cache=None)
    config["model"] = {"forward_proc": "forward_batch_only"}
    config["criterion"] = {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"ce": cross_entropy_term()}}}
    run(get_training_box(teacher, {"train": images}, config, torch.device("cpu"), None, False, 1))


def distill(
    student: nn.Module, teacher: nn.Module, images: Dataset[Any], spec: StudentSpec, cache: Path | None
) -> None:
    """The spec's distillation, in torchdistill's distillation box; the first epoch fills the cache."""
    config = training_config(spec.training, cache)
    config["teacher"] = {"forward_proc": "forward_batch_only", "requires_grad": False}
    config["student"] = {"forward_proc": "forward_batch_only", "requires_grad": True}
    terms = {"kd": distillation_term(spec.distillation)}
    config["criterion"] = {"key": "WeightedSumLoss", "kwargs": {"sub_terms": terms}}
    run(get_distillation_box(teacher, student, {"train": images}, config, torch.device("cpu"), None, False, 1))


def run(box: TrainingBox | DistillationBox) -> None:
    """All epochs of a box, as in torchdistill's examples, without their log and their validation after each epoch."""
    for epoch in range(box.num_epochs):
        box.pre_epoch_process(epoch=epoch)
        for images, labels, supplement in box.train_data_loader:
            box.pre_forward_process()
            loss = box.forward_process(images, labels, supplement)
            box.post_forward_process(loss=loss)
        box.post_epoch_process()
    box.clean_modules()


def training_config(training: TrainingSpec, cache: Path | None) -> Config:
    """Epochs, batches and optimiser of a training."""
    return {
        "num_epochs": training.epochs,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": training.batch_size, "num_workers": READERS},
            "cache_output": None if cache is None else str(cache),
        },
        "optimizer": {"key": "Adam", "kwargs": {"lr": training.learning_rate}},
    }


def cross_entropy_term() -> Config:
    """Cross-entropy of the model's output and the labels."""
    sides = {
        "input": {"is_from_teacher": False, "module_path": ".", "io": "output"},
        "target": {"uses_label": True},
    }
    return {
        "criterion": {"key": "CrossEntropyLoss", "kwargs": {"reduction": "mean"}},
        "criterion_wrapper": {"key": "SimpleLossWrapper", "kwargs": sides},
        "weight": 1.0,
    }


def distillation_term(distillation: DistillationSpec) -> Config:
    """The spec's loss: torchdistill's alpha is the share of the labels, and at 0 it leaves out the factor T²."""
    labels = 1 - distillation.alpha
    return {
        "criterion": {
            "key": "KDLoss",
            "kwargs": {
                "student_module_path": ".",
                "student_module_io": "output",
                "teacher_module_path": ".",
                "teacher_module_io": "output",
                "temperature": distillation.temperature,
                "alpha": labels,
                "reduction": "batchmean",
            },
        },
        "weight": 1.0 if labels else distillation.temperature**2,
    }


def require_files(cache: Path) -> None:
    """End where torchdistill wrote no cache: from 1.1.5 on it ignores the option."""
    if not any(cache.glob("*/*.pt")):
        raise SystemExit("error: this torchdistill keeps no cache: install 1.1.4, or run with --uncached")


if __name__ == "__main__":
    main()
