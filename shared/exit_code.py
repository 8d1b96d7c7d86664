"""Exit codes: how a command or a worker ended, for its shell or its starter."""

from __future__ import annotations

from enum import IntEnum

from distill_queue.shared.errors import DistillError, InvalidInput, Unavailable, UnknownPipeline


class ExitCode(IntEnum):
    """How a process ended."""

    #: All went well.
    WELL = 0
    #: Something ended badly, as a pipeline that failed or an artifact that is damaged.
    BADLY = 1
    #: What was given is wrong: an option, a spec, a setting, an id.
    WRONG_INPUT = 2
    #: The broker or the store does not work for now.
    BROKEN_WORLD = 3
    #: Ctrl-C ended it: 128 and the number of SIGINT.
    INTERRUPTED = 130

    @classmethod
    def of(cls, error: DistillError) -> ExitCode:
        """The exit code of a command that ends with an error."""
        match error:
            case InvalidInput() | UnknownPipeline():
                return cls.WRONG_INPUT
            case Unavailable():
                return cls.BROKEN_WORLD
            case _:
                return cls.BADLY
