"""Errors: the kinds that one process tells another, and the exit codes that a command ends with."""

from __future__ import annotations

import pytest

from distill_queue.shared.errors import (
    ERROR_KINDS,
    ArtifactDamaged,
    ArtifactMissing,
    BrokerUnavailable,
    DistillError,
    InvalidSettings,
    InvalidSpec,
    PipelineFailed,
    StoreUnavailable,
    UnknownPipeline,
    kind_of,
)
from distill_queue.shared.exit_code import ExitCode


@pytest.mark.parametrize(
    ("error", "kind"),
    [(InvalidSpec, "input"), (ArtifactMissing, "missing"), (StoreUnavailable, "store"), (ArtifactDamaged, "other")],
)
def test_an_error_that_another_process_tells_keeps_its_kind(error: type[DistillError], kind: str) -> None:
    told = kind_of(error("it is so"))

    assert told == kind
    assert issubclass(error, ERROR_KINDS.get(told, DistillError))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidSettings, 2),
        (InvalidSpec, 2),
        (UnknownPipeline, 2),
        (BrokerUnavailable, 3),
        (StoreUnavailable, 3),
        (PipelineFailed, 1),
        (ArtifactDamaged, 1),
    ],
)
def test_a_command_ends_with_the_exit_code_that_its_help_promises(error: type[DistillError], code: int) -> None:
    assert ExitCode.of(error("it is so")) == code
