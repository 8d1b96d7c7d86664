"""What is known of every format that a student may be exported in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """A format: each has a file of its own and a line in `shared.spec.export`; its exporter is in `worker.exports`."""

    #: What a spec calls it; the exporter's module has its name, with `_` for `-`.
    name: str
    #: What it is, as lists say it.
    about: str
    #: The name of the exported file.
    file: str
    #: The extra of distill-queue that a worker needs for it, and that extra's libraries as Python imports them.
    extra: str
    libraries: tuple[str, ...]
    #: Whether weights and activations become integers of 8 bits, so that some answers may change.
    integers: bool = False
    #: Whether the report's page may get a program that is made of the file, and computes answers there.
    has_page_program: bool = False
    #: Part of the stage's key: raised by one when the exporter's code changes the file.
    version: int = 1

    @property
    def module(self) -> str:
        """The name of the exporter's module."""
        return self.name.replace("-", "_")
