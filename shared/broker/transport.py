"""The transport: kombu's own for Redis, changed so that no entry in the broker can end a process that reads it.

It takes the place of kombu's for `redis://` and `rediss://`, in workers, clients and Flower alike. It
differs in two things: each entry goes through `shared.broker.entry` first, also one that a worker took and did not
acknowledge; and a key of another type under one of kombu's names is removed, and does no other harm. It follows
kombu 5.7, whose private methods it overrides.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import Empty
from time import monotonic
from typing import Any

from kombu import compression
from kombu.log import get_logger
from kombu.transport import TRANSPORT_ALIASES, redis
from redis.exceptions import ResponseError

from distill_queue.shared.broker.entry import REASON, UNREADABLE, read_entry, read_taken, unpack, unreadable
from distill_queue.shared.broker.fields import COMPRESSIONS
from distill_queue.shared.catalog import QUEUES

#: Names of the sets of queues that listen to an exchange.
BINDINGS = (redis.Channel.keyprefix_queue, redis.Channel.keyprefix_binding_permanent)

logger = get_logger(__name__)


def install() -> None:
    """Have all connections of this process use this transport."""
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), "distill_queue.shared.broker.transport:Transport"))
    compression.register(zlib.compress, unpack, COMPRESSIONS[0], aliases=COMPRESSIONS[1:])


class QoS(redis.QoS):  # type: ignore[misc]
    """The messages that this process has taken and not acknowledged, as kombu keeps them in `unacked`."""

    def append(self, message: Any, delivery_tag: str) -> None:
        """Enter a message."""
        self.channel.tried(partial(super().append, message, delivery_tag))

    def ack(self, delivery_tag: str) -> None:
        """Remove one that is done."""
        self.channel.tried(partial(super().ack, delivery_tag))

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Remove one, or put it back into its queue."""
        self.channel.tried(partial(super().reject, delivery_tag, requeue))

    def restore_visible(self, *arguments: Any, **options: Any) -> None:
        """Put back what workers took and did not renew."""
        with self.channel.conn_or_acquire() as client:
            # It ends by itself: what would hold it for longer is nothing that kombu wrote.
            mutex = f"{self.channel.global_keyprefix}{self.unacked_mutex_key}"
            with suppress(ResponseError):  # Redis 6.2 knows no NX here.
                client.expire(mutex, self.unacked_mutex_expire, nx=True)
        self.channel.tried(partial(super().restore_visible, *arguments, **options))

    def restore_by_tag(self, tag: bytes | str, client: Any = None, leftmost: bool = False) -> None:
        """Put one back into its queue; what is no message goes there as one that is refused."""

        def restore(pipe: Any) -> None:
            entry = pipe.hget(self.unacked_key, tag)
            if entry:
                payload, queue = read_taken(entry)
                pipe.llen(self.channel.list_of(payload, queue))  # Raises where the message could not be put there.
            pipe.multi()
            self._remove_from_indices(tag, pipe)
            if entry:
                self.channel._do_restore_message(payload, "", queue, pipe, leftmost)

        with self.channel.conn_or_acquire(client) as connected:
            try:
                self.channel.tried(partial(connected.transaction, restore, self.unacked_key))
            except ResponseError as error:
                if not _says_wrong_type(error):
                    raise
                logger.warning("a message stays where it is, as its queue's list is of another type: %r", tag)


class Channel(redis.Channel):  # type: ignore[misc]
    """Kombu's channel; what it reads has been looked at."""

    QoS = QoS
    #: Lists that hold something else than a list.
    _unusable: frozenset[str] = frozenset()

    def list_of(self, payload: dict[str, Any], queue: str) -> str:
        """The name of the list into which a message of a queue goes."""
        return str(self._q_for_pri(queue, self._get_message_priority(payload)))

    def tried(self, call: Callable[[], Any]) -> Any:
        """What a call returns; where keys under kombu's names are of another type, remove them and call it again."""
        try:
            return call()
        except ResponseError:
            if not self._mend():
                raise
        return call()

    def _mend(self) -> bool:
        """Remove what is of another type under kombu's names, and have a worker count it; whether there was any."""
        sets = [prefix % exchange for prefix in BINDINGS for exchange in self.get_exchanges()]
        probes: dict[str, tuple[Any, ...]] = {
            self.unacked_key: ("hget", ""),
            self.unacked_index_key: ("zrange", 0, 0),
            self.keyprefix_binding_deadlines: ("zrange", 0, 0),
        } | dict.fromkeys(sets, ("smembers",))
        with self.conn_or_acquire() as client:
            wrong = [key for key, (probe, *arguments) in probes.items() if _is_wrong(client, probe, key, *arguments)]
            for key in wrong:
                client.delete(key)
                what = f"the broker's key {key!r} was of another type, and is removed"
                logger.error("%s", what)
                with suppress(ResponseError):
                    client.lpush("any", json.dumps(unreadable(b"", "any", what)))
        return bool(wrong)

    def _brpop_start(self, timeout: float | None = None) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        names = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        if self._unusable:
            self._look_for_unusable()
        if not (keys := [name for name in names if name not in self._unusable]):
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        command = ["BRPOP", *keys, timeout or self.brpop_timeout or 0]
        if self.global_keyprefix:
            command = self.client._prefix_args(command)
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        try:
            found = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise
        except ResponseError as error:
            if not _says_wrong_type(error):
                raise
            self._look_for_unusable()
            raise Empty from None
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not found:
            raise Empty
        name, entry = found
        queue = name.decode().rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        payload = read_entry(entry, queue)
        if payload["content-type"] == UNREADABLE and queue not in QUEUES:  # An answer to a control command.
            logger.warning("an entry of %r is left unread: %s", queue, payload["headers"].get(REASON))
            raise Empty
        self.connection._deliver(payload, queue)
        return True

    def _look_for_unusable(self) -> None:
        names = [self._q_for_pri(queue, step) for queue in self.active_queues for step in self.priority_steps]
        with self.conn_or_acquire() as client:
            unusable = frozenset(name for name in names if _is_wrong(client, "llen", name))
        for name in unusable - self._unusable:
            logger.error("nothing is taken from %r, which is not a list: remove that key from the broker", name)
        self._unusable = unusable

    def _get(self, queue: str) -> dict[str, Any]:
        with self.conn_or_acquire() as client:
            for priority in self.priority_steps:
                if entry := client.rpop(self._q_for_pri(queue, priority)):
                    return read_entry(entry, queue)
        raise Empty

    def _size(self, queue: str) -> int:
        with self.conn_or_acquire() as client, client.pipeline() as pipe:
            for priority in self.priority_steps:
                pipe.llen(self._q_for_pri(queue, priority))
            return sum(size for size in pipe.execute(raise_on_error=False) if isinstance(size, int))

    def _handle_message(self, client: Any, r: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = super()._handle_message(client, r)
        if found["type"].endswith(b"message"):
            channel = found["channel"].decode(errors="replace")
            exchange = channel.partition(".")[2].partition("/")[0]
            found |= {"channel": channel, "data": json.dumps(read_entry(found["data"], exchange))}
        return found

    def _deliver_fanout_message(self, message: dict[str, Any], exchange: str) -> bool:
        if exchange not in self._fanout_to_queue:
            return False
        return bool(super()._deliver_fanout_message(message, exchange))

    def _queue_bind(self, *arguments: Any) -> None:
        self.tried(partial(super()._queue_bind, *arguments))

    def maybe_refresh_binding_expiry(self) -> None:
        """Keep the bindings of queues that end by themselves."""
        self.tried(super().maybe_refresh_binding_expiry)

    def get_table(self, exchange: str) -> list[tuple[str, ...]]:
        """The queues that listen to an exchange: routing key, pattern and name of each."""
        with self.conn_or_acquire() as client:
            members = self.tried(partial(client.smembers, self.keyprefix_queue % exchange))
        rows = [tuple(member.decode(errors="replace").split(self.sep)) for member in members]
        return [row for row in rows if len(row) == 3]


class Transport(redis.Transport):  # type: ignore[misc]
    """Kombu's transport with that channel."""

    Channel = Channel


def _is_wrong(client: Any, probe: str, key: str, *arguments: Any) -> bool:
    """Whether a key is of another type than a command takes."""
    try:
        getattr(client, probe)(key, *arguments)
    except ResponseError as error:
        return _says_wrong_type(error)
    return False


def _says_wrong_type(error: ResponseError) -> bool:
    return "WRONGTYPE" in str(error)
