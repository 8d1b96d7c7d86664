"""Kept messages: tasks and canvases that lie in the broker or the store as text, until a worker sends them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from platform import node

from celery import Celery
from celery.canvas import Signature
from kombu.exceptions import OperationalError
from kombu.utils.json import dumps, loads

from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.errors import UnreadableRecord, Untrusted
from distill_queue.shared.frozen import UNREADABLE
from distill_queue.shared.ledger.refusals import LONGEST_TEXT, Refusal, Refusals
from distill_queue.worker.coordination.refused_messages import refuse


@dataclass(frozen=True, slots=True)
class KeptMessages:
    """Seals messages that are to be kept, and sends kept messages."""

    app: Celery
    keyring: Keyring
    refusals: Refusals
    #: Whether to wait for a broker that is away, as stages do and a worker's main process must not.
    patient: bool

    def sealed(self, message: Signature) -> str:
        """A message as text to be kept: sealed, as anybody who can write to the broker could change it."""
        return self.keyring.seal("kept", dumps(message))

    def send(self, kept: str) -> None:
        """Send a kept message; refuse one that is not sealed with a key of this process, or is no message.

        Raises:
            UnreadableRecord: the key of its queue at the broker holds another type.

        """
        try:
            message = self.app.signature(loads(self.keyring.open("kept", kept)))
            message.apply_async(retry=self.patient)
        except Untrusted as error:
            self._refuse(kept, str(error))
        except OperationalError as error:
            if "WRONGTYPE" not in str(error):
                raise
            raise UnreadableRecord("its queue at the broker is of another type: 'distill doctor' says which") from error
        except (*UNREADABLE, AttributeError) as error:
            self._refuse(kept, f"it cannot be read: {type(error).__name__}: {error}"[:LONGEST_TEXT])

    def _refuse(self, kept: str, reason: str) -> None:
        refuse(self.refusals, Refusal(time=time.time(), worker=node(), reason=reason, body=kept[:LONGEST_TEXT]))
