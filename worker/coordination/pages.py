"""Pages: the reports of finished pipelines that are still to be written, once a worker has nothing else to do."""

from __future__ import annotations

from typing import Any

from distill_queue.shared.broker.client import BrokerClient


class Pages:
    """A list of pipelines in the broker; the one that waits longest is at its end."""

    def __init__(self, client: BrokerClient, history_seconds: int) -> None:
        self._redis: Any = client
        self._name = client.names.pages
        self._history_seconds = history_seconds

    def owe(self, pipeline: str) -> None:
        """Note that a pipeline's page is to be written."""
        with self._redis.pipeline(transaction=False) as pipe:
            pipe.lpush(self._name, pipeline)
            pipe.expire(self._name, self._history_seconds)
            pipe.execute()

    def take(self) -> str | None:
        """Take a pipeline whose page the caller has to write; None if there is none."""
        pipeline: str | None = self._redis.rpop(self._name)
        return pipeline
