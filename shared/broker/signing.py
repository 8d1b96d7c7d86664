"""Seals: codes that only holders of the signing key can make, so that workers obey no other messages."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from distill_queue.shared.errors import Untrusted

#: What a text is for; one that was signed for something else is refused.
Purpose = Literal["message", "kept", "plan"]
NAME_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class Key:
    """A secret that clients and workers share."""

    secret: str = field(repr=False)

    @property
    def name(self) -> str:
        """What tells the key from others, and nothing of its secret."""
        return self._code("name", "")[:NAME_CHARACTERS]

    def seal(self, purpose: Purpose, text: str) -> str:
        """A text behind its seal: `<the key's name>:<HMAC-SHA256> <text>`."""
        return f"{self.name}:{self._code(purpose, text)} {text}"

    def open(self, purpose: Purpose, sealed: str) -> str:
        """The text behind a seal.

        Raises:
            Untrusted: the seal is not this key's, or the text is another one.

        """
        seal, _, text = sealed.partition(" ")
        name, _, code = seal.partition(":")
        if name != self.name:
            raise Untrusted("it is not signed, or with another key than this process has in DISTILL_SIGNING_KEY")
        # As bytes: of texts, only ASCII can be compared in constant time.
        if not hmac.compare_digest(code.encode(), self._code(purpose, text).encode()):
            raise Untrusted("it was altered after it was signed, or signed for something else")
        return text

    def _code(self, purpose: str, text: str) -> str:
        return hmac.digest(self.secret.encode(), f"{purpose}\n{text}".encode(), hashlib.sha256).hex()


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a process: it signs with the first and obeys all; without keys it obeys what is not signed."""

    keys: tuple[Key, ...] = ()

    @classmethod
    def of(cls, secrets: Iterable[str]) -> Keyring:
        """The keys of some secrets."""
        return cls(tuple(map(Key, secrets)))

    @property
    def signs_as(self) -> str:
        """The name of the key to sign with; empty if nothing is signed."""
        return self.keys[0].name if self.keys else ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all keys."""
        return tuple(key.name for key in self.keys)

    def seal(self, purpose: Purpose, text: str) -> str:
        """A text behind its seal; without keys the text alone."""
        return self.keys[0].seal(purpose, text) if self.keys else text

    def open(self, purpose: Purpose, sealed: str) -> str:
        """The JSON object behind a seal.

        Raises:
            Untrusted: it was not sealed with one of the keys; or it was, and there are none.

        """
        if self.keys:
            name = sealed.partition(":")[0]
            key = next((key for key in self.keys if key.name == name), self.keys[0])
            return key.open(purpose, sealed)
        if not sealed.startswith("{"):
            raise Untrusted("it is signed, and this process has no DISTILL_SIGNING_KEY")
        return sealed


#: The keyring of a process that signs nothing.
NO_KEYS = Keyring()


def unsealed(sealed: str) -> str:
    """The JSON object behind a seal that is not checked: to be shown, never to be obeyed."""
    return sealed[max(0, sealed.find("{")) :]
