"""Keys: how all that this project has in the broker's Redis is named, and the client that knows it."""

from __future__ import annotations

from dataclasses import dataclass

#: The types of values, by the names of keys without what all begin with; of many keys, by how those begin.
TYPES = {
    "pipelines": "zset",
    "unfinished": "zset",
    "pipeline:": "hash",
    "logs:": "stream",
    "failure:": "string",
    "lease:": "string",
    "parked:": "hash",
    "parked": "set",
    "attempts:": "list",
    "blocks:": "string",
    "offered:": "string",
    "workers": "set",
    "worker:": "string",
    "worker-called:": "string",
    "gpus": "string",
    "pages": "list",
    "refused": "list",
    "refused:": "string",
    "looked": "string",
    "rescue": "string",
}


@dataclass(frozen=True, slots=True)
class Keys:
    """The names of one project's keys; those of another one in the same database begin with another prefix.

    Celery's and kombu's keys and channels begin with the same prefix (see `shared.broker.celery_app`).
    """

    #: What all names begin with: empty, or a project's name and a colon.
    prefix: str = ""

    @classmethod
    def of(cls, project: str) -> Keys:
        """The names of a project, which may be called nothing."""
        return cls(f"{project}:" if project else "")

    @property
    def pipelines(self) -> str:
        """All pipelines, by when they were submitted, in seconds since the epoch."""
        return self._own("pipelines")

    @property
    def unfinished(self) -> str:
        """Unfinished pipelines, by when something was last heard of them, in seconds since the epoch."""
        return self._own("unfinished")

    def pipeline(self, pipeline: str) -> str:
        """The hash of a pipeline: its plan and the states and records of its stages."""
        return self._own(f"pipeline:{pipeline}")

    def log(self, pipeline: str) -> str:
        """The stream of what workers said about a pipeline."""
        return self._own(f"logs:{pipeline}")

    def failure(self, key: str) -> str:
        """The error with which a stage was given up."""
        return self._own(f"failure:{key}")

    def lease(self, key: str) -> str:
        """The lease of a stage."""
        return self._own(f"lease:{key}")

    def parked(self, key: str) -> str:
        """The hash of tasks that wait for a stage which another one computes."""
        return self._own(f"parked:{key}")

    @property
    def parked_keys(self) -> str:
        """The set of stages for which tasks wait, so that a search for them need not go through all keys."""
        return self._own("parked")

    def attempts(self, key: str) -> str:
        """The list of a stage's attempts."""
        return self._own(f"attempts:{key}")

    def blocks(self, key: str) -> str:
        """The counter that gives the blocks of a soft-label stage to its crew."""
        return self._own(f"blocks:{key}")

    def offered(self, task_id: str) -> str:
        """Whether a task was left to the workers with a GPU."""
        return self._own(f"offered:{task_id}")

    @property
    def workers(self) -> str:
        """The names of all workers that were there."""
        return self._own("workers")

    def worker(self, name: str) -> str:
        """The entry of a worker that is there."""
        return self._own(f"worker:{name}")

    def worker_called(self, name: str) -> str:
        """Which worker of a name has called last: two of one name call in turn."""
        return self._own(f"worker-called:{name}")

    @property
    def gpus(self) -> str:
        """Exists while a worker is there that takes tasks of the queue `any` to a GPU."""
        return self._own("gpus")

    @property
    def refused(self) -> str:
        """The list of the last messages that workers did not obey."""
        return self._own("refused")

    @property
    def refused_count(self) -> str:
        """How many messages workers did not obey."""
        return self._own("refused:count")

    @property
    def pages(self) -> str:
        """The list of finished pipelines whose report a worker writes once nothing waits for it."""
        return self._own("pages")

    @property
    def looked(self) -> str:
        """Exists for a while after a worker looked for tasks that no other task will wake."""
        return self._own("looked")

    @property
    def rescue(self) -> str:
        """Exists for a while after a worker looked for pipelines that stand still."""
        return self._own("rescue")

    @property
    def unacknowledged(self) -> str:
        """Kombu's hash of the messages that workers have taken and not yet acknowledged."""
        return f"{self.prefix}unacked"

    @property
    def unacknowledged_times(self) -> str:
        """Kombu's sorted set of when these were taken, or last renewed."""
        return f"{self.prefix}unacked_index"

    @property
    def own(self) -> str:
        """How all names begin but kombu's and Celery's."""
        return self._own("")

    def type_of(self, name: str) -> str:
        """The type of value that a key of this project holds; empty where this version knows no such key."""
        if name in (self.unacknowledged, self.unacknowledged_times):
            return "hash" if name == self.unacknowledged else "zset"
        family, is_one_of_many, _ = name.removeprefix(self.own).partition(":")
        return TYPES.get(f"{family}:" if is_one_of_many else family, "")

    def _own(self, name: str) -> str:
        return f"{self.prefix}distill:{name}"
