"""Stop: how a worker's main process tells its child to hand back what it works on."""

from __future__ import annotations

import mmap


class Stop:
    """One byte that a process shares with the children it forks."""

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def ask(self) -> None:
        """Ask the children to stop."""
        self._byte[0] = 1

    @property
    def asked(self) -> bool:
        """Whether the children were asked to stop."""
        return self._byte[0] == 1
