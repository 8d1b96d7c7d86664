"""70,000 handwritten digits, downloaded by torchvision."""

from __future__ import annotations

from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources.digits import NAMES
from distill_queue.worker.data.sources.torchvision_set import torchvision_set


def read(_dataset: DataSource, reading: Reading) -> Arrays:
    """Read it, downloaded if it is not there yet; raises as `torchvision_set`."""
    return torchvision_set("MNIST", reading.runtime, NAMES)
