"""Given weights, as far as a client can read them without torch."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from shared.errors import InvalidSpec

#: The last layer's weights `[classes, features]` in every built-in model.
HEAD = "head.weight"


def classes_of(path: Path) -> int:
    """Number of classes that the weights of a built-in model tell apart.

    Raises:
        InvalidSpec: the file cannot be read, is no safetensors file, or is not of a built-in model.

    """
    try:
        with safe_open(path, framework="numpy") as weights:
            shape = weights.get_slice(HEAD).get_shape() if HEAD in set(weights.keys()) else []
    except (OSError, SafetensorError) as error:
        raise InvalidSpec(f"{path}: no safetensors file: {error}") from error
    if len(shape) != 2:
        raise InvalidSpec(f"{path}: not the weights of a built-in model: no matrix '{HEAD}'")
    return int(shape[0])
