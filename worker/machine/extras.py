"""Extras: libraries that only some data need, with the error that one of them is not installed."""

from __future__ import annotations

from importlib import import_module

from distill_queue.shared.errors import InvalidSpec


def require(library: str, extra: str, what: str) -> None:
    """Import a library.

    Args:
        library: its name.
        extra: the extra of distill-queue that it belongs to.
        what: needs it, as the message's subject.

    Raises:
        InvalidSpec: it is not installed on this worker.

    """
    try:
        import_module(library)
    except ImportError as error:
        raise InvalidSpec(
            f"{what} {library}, which this worker cannot import ({error}): pip install 'distill-queue[{extra}]'"
        ) from error
