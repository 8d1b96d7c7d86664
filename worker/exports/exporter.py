"""Exporters: what writes the files of a format and what runs them: one of this folder, or the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.catalog import is_reference
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.export import FORMATS
from distill_queue.worker.exports.job import ExportJob
from distill_queue.worker.machine import extras, plugins

#: What a class of the user's own has, which is an exporter and, made of a path and threads, a `RunningFile`.
OF_OWN = ("file_name", "integers", "write", "logits", "operators")


class RunningFile(Protocol):
    """An exported file that is asked for answers, made of its path and a number of threads."""

    #: The runtime's name and version.
    runtime: str

    @property
    def operators(self) -> dict[str, int]:
        """How often the file has each operator, as far as it tells."""

    def logits(self, samples: Mapping[str, npt.NDArray[Any]], /) -> npt.NDArray[np.float32]:
        """Logits `[samples, classes]` of raw samples by the names of the file's inputs."""


@dataclass(frozen=True, slots=True)
class Exporter:
    """What one format needs."""

    #: What the exported file is called.
    file_name: str
    #: Whether its numbers are integers of 8 bits, so that some answers may change.
    integers: bool
    write: Callable[[ExportJob, Path], None]
    #: `package.module:Class` of what runs the files, for a process of its own.
    running: str
    open: Callable[[Path, int], RunningFile]
    #: Whether the student's program for the report's page is made of the file.
    has_page_program: bool = False

    @classmethod
    def of(cls, name: str, allowed: tuple[str, ...]) -> Self:
        """The exporter of a format.

        Args:
            name: as a spec has it.
            allowed: packages of the user's own that may be imported.

        Raises:
            InvalidSpec: this worker knows no such format, or cannot import what it needs.

        """
        if is_reference(name):
            return cls._of_own(name, allowed)
        if name not in FORMATS:
            raise InvalidSpec(
                f"export.formats: this worker knows no '{name}': it is of another version of distill-queue"
            )
        found = FORMATS[name]
        for library in found.libraries:
            extras.require(library, found.extra, f"export.formats: {name} needs")
        module: Any = import_module(f"distill_queue.worker.exports.{found.module}")
        running = f"distill_queue.worker.exports.{module.RUNTIME}"
        file = import_module(running).File
        return cls(found.file, found.integers, module.write, f"{running}:File", file, found.has_page_program)

    @classmethod
    def _of_own(cls, name: str, allowed: tuple[str, ...]) -> Self:
        own: Any = plugins.load(name, allowed)
        lacks = [each for each in OF_OWN if not hasattr(own, each)]
        if lacks:
            raise InvalidSpec(f"{name}: an exporter is a class with {', '.join(OF_OWN)}; this one has no {lacks[0]}")
        return cls(own.file_name, bool(own.integers), own.write, name, own)
