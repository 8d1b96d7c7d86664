"""The table of the sources: how each data set is read, by the name that a spec calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources import (
    arrays,
    cifar10,
    cifar100,
    digits,
    fashion_mnist,
    hugging_face,
    image_folder,
    kmnist,
    mnist,
    mnist_5k,
    table_file,
    text,
)

#: Reads the whole data set that a spec describes; a source imports the library that it needs when it is called. Each
#: takes the spec of its own kind.
Source = Callable[[Any, Reading], Arrays]

#: By the name in a spec, or by what stands there ahead of a slash.
SOURCES: dict[str, Source] = {
    "mnist": mnist.read,
    "fashion_mnist": fashion_mnist.read,
    "kmnist": kmnist.read,
    "cifar10": cifar10.read,
    "cifar100": cifar100.read,
    "mnist_5k": mnist_5k.read,
    "digits": digits.read,
    "arrays": arrays.read,
    "image_folder": image_folder.read,
    "table": table_file.read,
    "text": text.read,
    "huggingface": hugging_face.read,
}
