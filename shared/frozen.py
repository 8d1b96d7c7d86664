"""Frozen: the base class of records that this project writes and other versions of it read."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from distill_queue.shared.errors import UnreadableRecord
from distill_queue.shared.text import plain_line

#: Errors of reading a text that anybody may have written: of the JSON parser and of the models' own validators.
UNREADABLE = (ValueError, TypeError, LookupError, ArithmeticError, RecursionError)
#: The most characters of the reason why a record cannot be read.
LONGEST_REASON = 200


class Frozen(BaseModel):
    """A frozen model that this project writes, and other versions of it read.

    Fields that this version does not know are passed over, so that a later one may add some. Only recipes, which are
    ingredients of keys, and what users write are closed to unknown fields (`shared.spec.part`).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, text: str | bytes, name: str) -> Self:
        """Read the model in a text that stands at the broker or in the store under a name.

        Raises:
            UnreadableRecord: this version cannot read the text; the message has the name, and why, in one line.

        """
        try:
            return cls.model_validate_json(text)
        except UNREADABLE as error:
            raise UnreadableRecord(f"{name} {_why_not(error)}") from None


def _why_not(error: Exception) -> str:
    """Why a text cannot be read: it is no JSON object, or one that another version writes."""
    if not isinstance(error, ValidationError):
        return f"is not readable: {plain_line(str(error), LONGEST_REASON)}"
    first = error.errors(include_url=False, include_input=False)[0]
    key = first.get("ctx", {}).get("key")  # The unknown key, which `shared.spec.part` reports.
    where = ".".join(map(str, (*first["loc"], *((key,) if key else ()))))
    if not where:
        return f"is not readable: {plain_line(first['msg'], LONGEST_REASON)}"
    what = plain_line(f"{where}: {first['msg']}", LONGEST_REASON)
    return f"was written by another version of distill-queue, or altered: {what}"
