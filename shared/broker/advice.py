"""Advice: what a broker that answers has refused, and what to do about it."""

from __future__ import annotations

import re

from redis import exceptions

_LOGIN = "set its user and password in DISTILL_BROKER_URL, as redis://USER:PASSWORD@HOST:6379/0"
#: A class of errors, a pattern of their text, and what is said of them; `{}` is the broker's own text.
_REFUSALS: tuple[tuple[type[Exception], str, str], ...] = (
    (
        exceptions.ResponseError,
        r"^MISCONF.*\bAOF\b",
        "it takes no writes, as it cannot write its append-only file: make room on the broker's own disk; its log has "
        "the reason",
    ),
    (
        exceptions.ResponseError,
        r"^MISCONF",
        "it takes no writes, as it cannot write its snapshot: make room on the broker's own disk, or mend the folder "
        "that its log names; with 'CONFIG SET stop-writes-on-bgsave-error no' it goes on, and a restart may forget all",
    ),
    (
        exceptions.OutOfMemoryError,
        "",
        "its memory is full: give it more (maxmemory), or lower DISTILL_HISTORY_DAYS",
    ),
    (
        exceptions.MasterDownError,
        "",
        "it is a replica that has lost its primary: set DISTILL_BROKER_URL to the primary",
    ),
    (
        exceptions.ReadOnlyError,
        "",
        "it is a replica, which takes no writes: set DISTILL_BROKER_URL to its primary",
    ),
    (
        exceptions.ResponseError,
        r"^NOREPLICAS",
        "it takes no writes without its replicas: start them, or lower its min-replicas-to-write",
    ),
    (
        exceptions.BusyLoadingError,
        "",
        "it was started and still loads its data: try again when it has",
    ),
    (
        exceptions.NoPermissionError,
        "",
        "{}: give this user the rights that docs/security.md lists, or set another in DISTILL_BROKER_URL",
    ),
    (
        exceptions.AuthenticationError,
        r"without any password configured|no password is set",
        "it asks for no password: leave it out of DISTILL_BROKER_URL",
    ),
    (
        exceptions.AuthenticationError,
        r"^HELLO|^Authentication required",
        f"it asks for a password: {_LOGIN}",
    ),
    (
        exceptions.AuthenticationError,
        "",
        f"{{}}: {_LOGIN}",
    ),
    (
        exceptions.ConnectionError,
        r"max number of clients reached",
        "{}: end some workers and clients, or raise its maxclients",
    ),
    (
        exceptions.RedisError,
        r"running in protected mode",
        "it answers its own machine only (protected mode): give it a password, or an address to listen on",
    ),
    (
        exceptions.ResponseError,
        r"DB index is out of range|invalid DB index",
        "it has no database of the number at the end of DISTILL_BROKER_URL: use /0",
    ),
    (exceptions.ResponseError, "", "{}"),
)


def refusal(error: BaseException) -> str:
    """What the broker has refused and what to do about it, without its name; empty where it did not answer."""
    text = re.sub(r"^Command # \d+ \(.*\) of pipeline caused error: ", "", str(error), flags=re.DOTALL)
    for kind, pattern, words in _REFUSALS:
        if isinstance(error, kind) and re.search(pattern, text):
            return words.replace("{}", text.rstrip("."))
    return ""
