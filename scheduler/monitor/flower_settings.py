"""Flower's configuration: Flower runs this file (`--conf=…/flower_settings.py`).

Each name here that is an option of Flower's sets that option; Flower's command line wins. Options that are not set here
can be set by the environment, as `FLOWER_URL_PREFIX`.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from typing import Any

from celery import states
from celery.events.state import TASK_EVENT_TO_STATE, Task
from flower import events
from flower.utils import broker, strtobool
from flower.views.tasks import TASK_COLUMNS
from redis import asyncio as redis
from tornado.options import options

from distill_queue.scheduler.monitor.events import cleaned_batch
from distill_queue.scheduler.monitor.login import logins
from distill_queue.shared.broker_address import BrokerAddress
from distill_queue.shared.errors import InvalidSettings
from distill_queue.shared.exit_code import ExitCode
from distill_queue.shared.text import plain_line, plain_text

#: The columns in the page's order; the task's id links to its page, and stands where 1,400 pixels show its beginning.
tasks_columns = "args,kwargs,state,result,worker,uuid,routing_key,runtime,received"
TASK_COLUMNS |= {
    "args": "Pipeline",
    "kwargs": "Stage",
    "result": "Progress, result or error",
    "routing_key": "Queue",
    "uuid": "Task",
}
natural_time = True

#: The history survives a restart: it is written every so many milliseconds, and when Flower is told to end.
persistent = True
state_save_interval = 10_000
max_tasks = 10_000
#: Seconds until a worker that is offline is forgotten: started anew, it may have another name.
purge_offline_workers = 86_400
#: Upper ends of the bins of Flower's own metrics, in seconds.
task_runtime_metric_buckets = [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 14_400.0, 43_200.0]

try:
    # Flower has read the environment and its command line, and split what they say at commas.
    _given = {"FLOWER_BASIC_AUTH": ",".join(options.basic_auth)} if options.basic_auth else {}
    basic_auth = logins(os.environ | _given)
except InvalidSettings as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(ExitCode.WRONG_INPUT)

# Without a login Flower refuses the requests of its buttons: then it shows no buttons.
read_only = not (basic_auth or options.auth or strtobool(os.environ.get("FLOWER_UNAUTHENTICATED_API", "no")))

# A stage that reports progress still runs: it stays under the filter 'Started', and keeps its Terminate button.
TASK_EVENT_TO_STATE["progress"] = states.STARTED


class RedisSocket(broker.RedisSocket):  # type: ignore[misc]
    """Counts messages for the broker's page; Flower's own class ignores the database in a socket's URL."""

    def __init__(self, broker_url: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(broker_url, *args, **kwargs)
        address = BrokerAddress.parse(broker_url)
        self.redis = redis.Redis(**address.redis_options, socket_timeout=self.socket_timeout)


broker.RedisSocket = RedisSocket


class Receiver(events.EventReceiver):  # type: ignore[misc]
    """Takes in events, and drops those that no worker sends: they would break pages."""

    def _receive(self, body: object, message: object, *_: object) -> None:
        super()._receive(cleaned_batch(body), message)


events.EventReceiver = Receiver


def format_task(task: Task) -> Task:
    """The task as the pages show it: its pipeline and its stage in words stand in place of its arguments."""
    task.args, _, task.kwargs = plain_line(str(task.kwargs or "")).partition(" · ")
    failed = task.state in (states.FAILURE, states.RETRY)
    title = task.kwargs.partition(" · ")[0]  # Errors begin with the title.
    task.result = _unquoted(task.exception if failed else task.result).removeprefix(f"{title}: ")
    if task.state == states.REVOKED:
        last = re.sub(r"^[^·]* left · ", "", task.result)
        task.result = f"cancelled; it was at {last}" if last else "cancelled"
    return task


def _unquoted(shown: str | None) -> str:
    """A text without the quotes and the error's name that Python puts around it; the text may be cut off."""
    text = re.sub(r"""^\w+\((?=['"])""", "", str(shown or ""))
    try:
        return plain_text(str(ast.literal_eval(text.removesuffix(")"))))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return plain_text(text.strip("'\""))
