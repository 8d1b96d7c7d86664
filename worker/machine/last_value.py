"""The last value: what a process computed last, kept in memory for the next stage that needs the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LastValue(Generic[T]):
    """One value in memory, with the name of what it was computed from."""

    def __init__(self) -> None:
        self._kept: tuple[Hashable, T] | None = None

    def get(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return the value of a name: the kept one, or else a new one in its place."""
        if self._kept is None or self._kept[0] != name:
            self._kept = None  # Before the new one is computed, as both may be large.
            self._kept = (name, compute())
        return self._kept[1]

    def find(self, name: Hashable) -> T | None:
        """Return the value of a name, if it is the one that is kept."""
        return self._kept[1] if self._kept is not None and self._kept[0] == name else None

    def forget(self) -> None:
        """Keep nothing any more."""
        self._kept = None

    def keep(self, name: Hashable, value: T) -> None:
        """Keep a value in place of the last one."""
        self._kept = name, value
