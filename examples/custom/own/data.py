"""Lines of source code from Python's own standard library; the class of a line is the package that it is from."""

from __future__ import annotations

from collections import Counter
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

#: Packages that every Python has, Debian's and Docker's included, and that have lines enough.
PACKAGES = ("asyncio", "email", "http", "importlib", "logging", "multiprocessing", "unittest", "xml")
#: Characters that a line must have: shorter ones, as `return None`, could be from anywhere.
SHORTEST = 20
#: Share of the lines that are for testing.
TEST_SHARE = 0.2

Array = npt.NDArray[Any]


def source_lines(length: int = 64, lines_a_class: int = 2_000) -> dict[str, Any]:
    """Training and test lines as tokens, as many of every class, and no line in both.

    Args:
        length: tokens of a line; the rest of a longer one is left out.
        lines_a_class: lines that are taken of a package, those for testing included.

    Returns:
        `train` and `test`, each `(inputs, targets)`: inputs int16 `[samples, length]`, the bytes of a line and then 0,
        targets int64 `[samples]`; and `class_names`, the packages.

    """
    found = [_lines(_folder(package), length) for package in PACKAGES]
    owners = Counter(line for lines in found for line in lines)
    chosen = [_chosen({line for line in lines if owners[line] == 1}, lines_a_class) for lines in found]
    return {
        "train": _tokens([lines[round(len(lines) * TEST_SHARE) :] for lines in chosen], length),
        "test": _tokens([lines[: round(len(lines) * TEST_SHARE)] for lines in chosen], length),
        "class_names": PACKAGES,
    }


def _folder(package: str) -> Path:
    """Where a package's source is; the package is not imported."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"this Python has no source of the package '{package}'")
    return Path(spec.submodule_search_locations[0])


def _lines(folder: Path, length: int) -> set[bytes]:
    """The different lines of a package, without indentation and cut to `length` bytes; its tests are left out."""
    files = (path for path in folder.rglob("*.py") if not {"test", "tests"} & {*path.relative_to(folder).parts})
    texts = (" ".join(line.split()) for path in files for line in path.read_text("utf-8").splitlines())
    return {text.encode()[:length] for text in texts if len(text) >= SHORTEST}


def _chosen(lines: set[bytes], number: int) -> list[bytes]:
    """Some of the lines, in an order that has nothing to do with what they say and is the same every time."""
    return sorted(lines, key=lambda line: sha256(line).digest())[:number]


def _tokens(classes: list[list[bytes]], length: int) -> tuple[Array, Array]:
    """The lines of all classes `[samples, length]`, and their classes `[samples]`."""
    padded = b"".join(line.ljust(length, b"\0") for lines in classes for line in lines)
    inputs = np.frombuffer(padded, np.uint8).reshape(-1, length).astype(np.int16)
    return inputs, np.repeat(np.arange(len(classes)), [len(lines) for lines in classes])
