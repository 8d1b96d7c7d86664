"""The sender: makes a pipeline's messages and sends them; loads Celery, which a client that only reads never needs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kombu.exceptions
from celery.canvas import Signature
from kombu.utils.json import dumps, loads

from distill_queue.scheduler.client import canvas
from distill_queue.shared.broker.advice import refusal
from distill_queue.shared.broker.celery_app import create_app
from distill_queue.shared.broker.entry import LONGEST_BODY
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.errors import BrokerUnavailable, InvalidSpec, UnreadableRecord
from distill_queue.shared.frozen import UNREADABLE
from distill_queue.shared.line import first_line
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
from distill_queue.shared.settings import Settings

#: Bytes of a pipeline's messages, at the most; as they are sent, each stage takes about 140 more.
LONGEST_MESSAGES = LONGEST_BODY * 3 // 4


class Sender:
    """Sends plans to the workers at the broker of the settings."""

    def __init__(self, settings: Settings, keyring: Keyring) -> None:
        self._app, self._keyring = create_app(settings, keeps_results=False), keyring
        self._address = settings.broker_address

    def messages(self, plan: Plan, pipeline: str) -> str:
        """A pipeline's messages, sealed; they can be opened and sent now, later, or from elsewhere.

        Raises:
            InvalidSpec: they are longer than workers accept.

        """
        text = dumps(canvas.build(self._app, plan, pipeline))
        if len(text) > LONGEST_MESSAGES:
            raise InvalidSpec(
                f"its {len(plan.stages):,} stages make messages of {len(text) / 2**20:,.0f} MiB, and "
                f"{LONGEST_MESSAGES / 2**20:,.0f} MiB are the most: submit the students in several pipelines"
            )
        return self._keyring.seal("kept", text)

    def opened(self, messages: str, pipeline: str) -> Signature:
        """A pipeline's messages, opened so that `send` can send them.

        Raises:
            Untrusted: they were not sealed with one of the keys.
            UnreadableRecord: this version cannot read them.

        """
        try:
            return self._app.signature(loads(self._keyring.open("kept", messages)))
        except UNREADABLE as error:
            raise UnreadableRecord(f"the messages of {pipeline} are not readable: {first_line(error)}") from None

    def send(self, opened: Signature) -> None:
        """Send messages.

        Raises:
            BrokerUnavailable: the broker does not take them.

        """
        try:
            opened.apply_async()
        except kombu.exceptions.OperationalError as error:
            said = refusal(error.__cause__ or error)
            raise BrokerUnavailable(
                f"the broker at {self._address} refuses: {said}" if said else f"no broker at {self._address}: {error}"
            ) from error

    def stages_in(self, messages: str, pipeline: str) -> set[tuple[str, str]]:
        """The stages in a pipeline's messages, as pairs of the pipeline's id in the message and the stage's JSON.

        Raises:
            Untrusted: they were not sealed with one of the keys.
            UnreadableRecord: this version cannot read them.

        """
        opened = self.opened(messages, pipeline)
        try:
            return {(of, stage.model_dump_json()) for of, stage in _stages_in(opened)}
        except UNREADABLE as error:
            raise UnreadableRecord(f"the messages of {pipeline} are not readable: {first_line(error)}") from None


def _stages_in(part: Any) -> Iterator[tuple[str, Stage]]:
    match part:
        case {"pipeline": str(pipeline), "stages": list(stages)}:
            yield from ((pipeline, Stage.model_validate(stage)) for stage in stages)
        case dict():
            yield from (found for each in part.values() for found in _stages_in(each))
        case list():
            yield from (found for each in part for found in _stages_in(each))
