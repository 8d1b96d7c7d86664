"""The broker's client: Redis's own, which knows this project's keys and names those of another type."""

from __future__ import annotations

from typing import Any

import redis
from redis.client import Pipeline

from distill_queue.shared.broker.keys import Keys
from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.skipped import Skipped, quoted


class BrokerClient(redis.Redis):
    """A client of the broker's Redis, and the names of what this project has there.

    Where a key holds a value of another type than what is asked of it, an `UnreadableRecord` is raised that names the
    key, and not an error of the broker's: it answers, and all other keys are as they were.
    """

    names = Keys()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        #: Records that this client could not read, and passed over.
        self.skipped = Skipped()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command.

        Raises:
            UnreadableRecord: its key, or one of a script's keys, holds a value of another type.

        """
        try:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            if found := wrong_type(error, args):
                raise found from error
            raise

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> BrokerPipeline:
        """Several commands in one round trip."""
        pool: Any = self.connection_pool
        return BrokerPipeline(pool, self.response_callbacks, transaction, shard_hint)


class BrokerPipeline(Pipeline):
    """Several commands to the broker's Redis in one round trip, with the errors of `BrokerClient`."""

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Execute the commands and return their answers; all are executed, whichever of them fails.

        Args:
            raise_on_error: whether to raise the first error; else errors stand among the answers, so that each key of
                another type costs only what was asked of it.

        Raises:
            UnreadableRecord: a command's key holds a value of another type.

        """
        commands = [command for command, _ in self.command_stack]
        answers: list[Any] = super().execute(raise_on_error=False)
        answers = [wrong_type(answer, command) or answer for answer, command in zip(answers, commands, strict=True)]
        if raise_on_error:
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def wrong_type(answer: object, command: tuple[Any, ...]) -> UnreadableRecord | None:
    """The error of a key that holds another type, if an answer is the broker's word of that."""
    if not isinstance(answer, redis.ResponseError) or "WRONGTYPE" not in str(answer):
        return None
    of_script = command[0] in ("EVALSHA", "EVAL")
    keys = command[3 : 3 + int(command[2])] if of_script else command[1:2]
    return UnreadableRecord(other_type(" or ".join(quoted(str(key)) for key in keys)))


def other_type(names: str) -> str:
    """The message about a key that holds a value of another type than this project keeps there."""
    return f"{names} at the broker holds a value of another type: look at it with TYPE, then DEL it"
