"""Every error that distill-queue raises on purpose.

DistillError
├── InvalidInput            what the user gave is wrong: exit code 2, never retried
│   ├── InvalidSpec         a spec, or something that it names
│   └── InvalidSettings     an environment variable or an option
├── Unavailable             the world is broken for now: retried
│   ├── BrokerUnavailable   Redis does not answer
│   │   └── UnfitBroker     it answers, but cannot be a broker
│   └── StoreUnavailable    the store cannot be read or written
├── ArtifactMissing         a key that is not in the store
├── ArtifactDamaged         an artifact whose files differ from its manifest
├── StageStopped            a stage ended early, and will go on or need not
│   ├── LeaseLost           another worker took over the stage
│   ├── HandedBack          its worker is told to end
│   └── Cancelled           its pipeline was cancelled
├── Untrusted               a message or plan that was not signed with the signing key
├── StageFailed             a stage ended for good without a result
│   └── OverTime            its pipeline's time limit ended it; another pipeline may give it longer
├── UnknownPipeline         no pipeline of this id
├── UnreadableRecord        what stands at the broker or in the store is not what this version can read
└── PipelineFailed          a pipeline ended without all of its results

Each takes one positional message, so that it crosses Redis whole. Others may have written parts of the message, such as
an error of the user's own code or the name of a file. So `DistillError` makes it plain, before it is shown or stored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill_queue.shared.text import plain_text


class DistillError(Exception):
    """Root of the errors that are shown to users without a traceback."""

    def __init__(self, message: str = "") -> None:
        super().__init__(plain_text(message))


class InvalidInput(DistillError):
    """The user's input is wrong; doing it again cannot help."""


class InvalidSpec(InvalidInput):
    """A spec, or something that it names, cannot be used."""


class InvalidSettings(InvalidInput):
    """An environment variable or a command line option cannot be used."""


class Unavailable(DistillError):
    """Something outside this program does not work for now."""


class BrokerUnavailable(Unavailable):
    """Redis does not answer."""


class UnfitBroker(BrokerUnavailable):
    """A Redis answers that cannot be a broker, such as a node of a cluster."""


class StoreUnavailable(Unavailable):
    """The store cannot be read or written."""


class ArtifactMissing(DistillError):
    """The store holds no artifact of that key."""


class ArtifactDamaged(DistillError):
    """An artifact's files are not the ones that its manifest lists."""


class StageStopped(DistillError):
    """A stage ended before it was done, at a step's boundary."""


class LeaseLost(StageStopped):
    """Another worker holds the lease of the stage that this one works on."""


class HandedBack(StageStopped):
    """The stage's worker was told to end; another one goes on with the stage."""


class Cancelled(StageStopped):
    """The stage's pipeline was cancelled."""


class Untrusted(DistillError):
    """A message or plan was not signed with a key of this process, or altered since."""


class StageFailed(DistillError):
    """A stage ended for good without a result."""


class OverTime(StageFailed):
    """The stage took longer than its pipeline allows."""


class UnknownPipeline(DistillError):
    """The broker knows no pipeline of that id."""


class UnreadableRecord(DistillError):
    """A record at the broker or in the store is garbage, of another type, or written differently by another version."""


class PipelineFailed(DistillError):
    """A pipeline ended without all of its results."""


#: Errors whose kind one process tells another, by their names in JSON.
ERROR_KINDS: dict[str, type[DistillError]] = {
    "input": InvalidInput,
    "missing": ArtifactMissing,
    "store": StoreUnavailable,
}


def kind_of(error: DistillError) -> str:
    """The name of an error's kind in `ERROR_KINDS`; "other" where it has none there."""
    return next((name for name, kind in ERROR_KINDS.items() if isinstance(error, kind)), "other")


@contextmanager
def store_errors(path: str | Path) -> Iterator[None]:
    """Raise errors of the file system as `StoreUnavailable`."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"store: {error.filename or path}: {error.strerror or error}") from error
