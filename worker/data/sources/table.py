"""The table of the built-in data sets: how each is read, by the name that a spec calls it."""

from __future__ import annotations

from collections.abc import Callable

from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.sources import cifar10, cifar100, digits, fashion_mnist, kmnist, mnist, mnist_5k
from distill_queue.worker.machine.runtime import Runtime

#: Reads the whole data set that a spec names; a source imports the library that it needs when it is called.
Source = Callable[[DatasetSpec, Runtime], Arrays]

SOURCES: dict[str, Source] = {
    "mnist": mnist.read,
    "fashion_mnist": fashion_mnist.read,
    "kmnist": kmnist.read,
    "cifar10": cifar10.read,
    "cifar100": cifar100.read,
    "mnist_5k": mnist_5k.read,
    "digits": digits.read,
}
