"""Records: several inputs of a sample, laid side by side, so that a sample is one run of bytes on the disk."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.worker.data.split import pieces


def by_name(inputs: Array) -> dict[str, Array]:
    """The inputs by their names; one that has none by the empty name."""
    return {name: inputs[name] for name in inputs.dtype.names} if inputs.dtype.names else {"": inputs}


def laid_together(whose: str, inputs: Mapping[str, Array]) -> Array:
    """Records `[samples]` of arrays `[samples, ...]`, by the names under which a model takes them.

    Raises:
        InvalidSpec: there are none, they are of different lengths, or a name is none of a Python argument.

    """
    lengths = {name: len(values) for name, values in inputs.items()}
    if len(set(lengths.values())) != 1:
        counts = " and ".join(f"{length:,} of {name}" for name, length in lengths.items()) or "none"
        raise InvalidSpec(f"{whose}: as many of each input are wanted, not {counts}")
    for name in lengths:
        if not (isinstance(name, str) and name.isidentifier()):
            raise InvalidSpec(f"{whose}: {name!r} cannot be an argument of a model's forward")
    dtype = np.dtype([(name, values.dtype.newbyteorder("="), values.shape[1:]) for name, values in inputs.items()])
    together: Array = np.empty(next(iter(lengths.values())), dtype)
    for rows in pieces(together):
        for name, values in inputs.items():
            together[name][rows] = values[rows]
    return together
