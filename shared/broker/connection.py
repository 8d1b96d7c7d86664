"""Connection: a client of the broker's Redis that was seen to answer, and its errors in the user's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import EqualJitterBackoff
from redis.retry import Retry

from distill_queue.shared.broker.advice import refusal
from distill_queue.shared.broker.client import BrokerClient
from distill_queue.shared.broker.keys import Keys
from distill_queue.shared.errors import BrokerUnavailable, UnfitBroker
from distill_queue.shared.settings import Settings
from distill_queue.shared.text import BYTES_OR_ESCAPES

#: Modes of a server that is no broker, and what to do.
UNFIT = {
    "cluster": (
        "it is a node of a Redis Cluster, which spreads keys that one command or script needs together: use a server "
        "that is no cluster (cluster-enabled no), with replicas if it must not fail"
    ),
    "sentinel": "it is a Sentinel: give the address of the master that it watches, or of a proxy",
}


def connect(settings: Settings, *, retries: int | None = None) -> BrokerClient:
    """Connect to the broker's Redis, and see that it answers.

    Args:
        settings: the process's settings.
        retries: how often a command is tried again; None: a few times, as suits people who wait.

    Raises:
        BrokerUnavailable: it does not answer; the message has its address without its password.
        UnfitBroker: it is a node of a cluster, or a Sentinel.

    """
    # A server that accepts and never answers may be no broker at all: people hear of that after two tries.
    first, later = (1, 3) if retries is None else (retries, retries)
    client = unchecked_client(settings, retries=first)
    try:
        mode = _mode(client)
    except redis.RedisError as error:
        if said := refusal(error):
            raise BrokerUnavailable(f"the broker at {settings.broker_address} refuses: {said}") from error
        advice = _advice(error, settings)
        raise BrokerUnavailable(f"no broker at {settings.broker_address} ({error}): {advice}") from error
    if why_not := UNFIT.get(mode):
        client.close()
        raise UnfitBroker(f"no broker at {settings.broker_address}: {why_not}")
    client.set_retry(_retry(later))
    return client


def unchecked_client(settings: Settings, *, retries: int) -> BrokerClient:
    """A client of the broker's Redis, which may not be there."""
    options: dict[str, Any] = settings.broker.redis_options | settings.tls
    client = BrokerClient(
        decode_responses=True,
        # Bytes that are no text cost the record that they are in, and a name of such bytes is still the key's.
        encoding_errors=BYTES_OR_ESCAPES,
        socket_connect_timeout=3,
        socket_timeout=settings.answer_seconds,
        retry=_retry(retries),
        **options,
    )
    client.names = Keys.of(settings.prefix)
    return client


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise what the broker's client raises as `BrokerUnavailable`."""
    try:
        yield
    except redis.RedisError as error:
        said = refusal(error)
        raise BrokerUnavailable(
            f"the broker refuses: {said}" if said else f"the broker does not answer: {error}"
        ) from error


def _mode(client: BrokerClient) -> str:
    """The server's mode; HELLO is asked in place of PING or INFO, since it needs no right."""
    try:
        greeting: Any = client.execute_command("HELLO")
    except redis.ResponseError as error:
        if "not allowed in cluster mode" in str(error):  # As Redis says of any database but 0.
            return "cluster"
        raise
    if isinstance(greeting, list):  # Of a client that speaks protocol 2, as redis-py does before 8.0: names and values.
        greeting = dict(zip(greeting[::2], greeting[1::2], strict=True))
    return str(greeting.get("mode", ""))


def _retry(retries: int) -> Retry:
    return Retry(EqualJitterBackoff(cap=1.0, base=0.05), retries=retries)


def _advice(error: Exception, settings: Settings) -> str:
    """What to do about a broker that does not answer."""
    if "certificate is not valid for" in str(error):
        return "call the broker by a name in its certificate"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "set DISTILL_BROKER_CA to the certificate of the authority that signed the broker's"
    if any(ending in str(error) for ending in ("reset by peer", "closed by server", "Broken pipe")):
        crowded = "see whether its maxclients is reached"
        return crowded if settings.encrypted else f"use rediss:// if it is encrypted; else {crowded}"
    return "start one with 'distill up' or set DISTILL_BROKER_URL"
