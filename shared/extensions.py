"""Extensions: names that packages give to models, losses, data sources and formats of theirs, by entry points.

An entry point `cosine = "mine.losses:cosine"` of the group `distill_queue.losses` makes `cosine` short for the
reference. Only packages' metadata are read here, and nothing of theirs is imported.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Literal

#: What packages may add: `distill_queue.<kind>` is the group of its entry points.
ExtensionKind = Literal["models", "losses", "data_sources", "formats"]


@dataclass(frozen=True, slots=True)
class Extension:
    """One entry point."""

    name: str
    #: `package.module:callable`, if it was declared as it should be.
    reference: str
    #: Name and version of the package that declares it.
    distribution: str

    @property
    def about(self) -> str:
        """The reference that it stands for, and the package that declares it."""
        return f"{self.reference}, of {self.distribution}"


def extensions(kind: ExtensionKind) -> tuple[Extension, ...]:
    """The entry points of a kind that installed packages declare, by name; several may have the same name."""
    found = [
        Extension(point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "a package")
        for point in _entry_points(tuple(sys.path)).select(group=f"distill_queue.{kind}")
    ]
    return tuple(sorted(found, key=lambda each: (each.name, each.reference, each.distribution)))


@cache  # Reading all packages' metadata takes 30 ms.
def _entry_points(_path: tuple[str, ...]) -> Any:  # Python 3.11 has another class for them than later ones.
    return entry_points()
