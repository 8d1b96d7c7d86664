"""Finding: what the doctor says of one thing that it has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """What was examined, what was found, and what to do."""

    subject: str
    state: Literal["good", "warning", "bad"]
    detail: str
    advice: str = ""
