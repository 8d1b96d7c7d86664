"""Refused messages: a worker logs, keeps and counts the messages that it does not obey."""

from __future__ import annotations

import redis
from celery.utils.log import get_logger

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.ledger.refusals import Refusal, Refusals

logger = get_logger(__name__)


def refuse(refusals: Refusals, refusal: Refusal) -> None:
    """Log that a message was refused, and keep and count it."""
    # Quoted: its sender may have put line breaks into it, to write lines of a log.
    logger.error("refused %r from %r: %s", refusal.task or "a message", refusal.queue, refusal.reason)
    try:
        refusals.enter(refusal)
    except (redis.RedisError, UnreadableRecord) as error:
        logger.warning("the refused message is not kept: %s", error)
