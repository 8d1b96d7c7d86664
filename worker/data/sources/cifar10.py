"""60,000 photographs of 10 classes, downloaded by torchvision."""

from __future__ import annotations

from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.sources.torchvision_set import torchvision_set
from distill_queue.worker.machine.runtime import Runtime


def read(_dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """Read it, downloaded if it is not there yet; raises as `torchvision_set`."""
    return torchvision_set("CIFAR10", runtime)
