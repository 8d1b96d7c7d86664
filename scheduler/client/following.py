"""Following: a pipeline's status again and again, also while the broker is away for a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

from distill_queue.shared.errors import BrokerUnavailable
from distill_queue.shared.ledger.status import PipelineStatus

logger = logging.getLogger(__name__)

#: Seconds between two looks at a pipeline: at least, and at most. In between, a pause is so many times as long as a
#: look, so that watching a large pipeline keeps neither the broker nor a core busy.
WATCH_SECONDS, LONGEST_WATCH_SECONDS, PAUSES_A_LOOK = 0.1, 2.0, 4.0
#: Seconds for which a watcher waits for a broker that went away.
AWAY_SECONDS = 600.0


def followed(look: Callable[[], PipelineStatus]) -> Iterator[PipelineStatus]:
    """The status that a look finds, again and again, until the pipeline is finished.

    Raises:
        BrokerUnavailable: the broker was away for longer than `AWAY_SECONDS`.

    """
    deadline, away = time.monotonic() + AWAY_SECONDS, False
    while True:
        pause, looked = WATCH_SECONDS, time.monotonic()
        try:
            status = look()
        except BrokerUnavailable:
            if time.monotonic() > deadline:
                raise
            if not away:
                logger.warning("the broker does not answer: waiting for it, up to %.0f s", AWAY_SECONDS)
            away = True
        else:
            away = False
            deadline = time.monotonic() + AWAY_SECONDS
            pause = min(max(pause, PAUSES_A_LOOK * (time.monotonic() - looked)), LONGEST_WATCH_SECONDS)
            yield status
            if status.finished:
                return
        time.sleep(pause)
