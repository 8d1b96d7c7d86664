"""The hub of Hugging Face: files of its repositories at one commit, from the library's cache or by a download."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill_queue.shared.errors import InvalidSpec, Unavailable
from distill_queue.shared.line import first_line, shortened
from distill_queue.worker.machine.outages import can_pass

#: Characters of what the library says.
LONGEST_REASON = 300


def file(repository: str, commit: str, name: str) -> Path:
    """A file of a repository, which the cache in `HF_HOME` holds from then on.

    Raises:
        InvalidSpec: there is no such repository, commit or file.
        Unavailable: the hub does not give it for now.

    """
    from huggingface_hub import hf_hub_download

    with _problems(repository, commit):
        return Path(hf_hub_download(repository, name, revision=commit))


def folder(repository: str, commit: str, patterns: list[str]) -> Path:
    """A folder with those of a repository's files whose names match a pattern.

    Raises:
        InvalidSpec, Unavailable: as for `file`.

    """
    from huggingface_hub import snapshot_download

    with _problems(repository, commit):
        return Path(snapshot_download(repository, revision=commit, allow_patterns=patterns))


@contextmanager
def _problems(repository: str, commit: str) -> Iterator[None]:
    """Turn the library's errors into messages for people."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    try:
        yield
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        text = f"{repository} at {commit[:12]}: {shortened(first_line(error), LONGEST_REASON)}"
        passes = isinstance(error, LocalEntryNotFoundError) or can_pass(error)
        raise (Unavailable if passes else InvalidSpec)(text) from error
