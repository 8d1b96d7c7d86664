"""Trial: models that answer in the page to what its reader draws, and the script that computes their answers."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

#: The files of the script, in order.
SCRIPT = ("program.js", "try_it.js")
#: The longer side of the field to draw on, in pixels of its canvas.
FIELD = 280


@dataclass(frozen=True, slots=True)
class Trial:
    """What the script needs."""

    #: JSON in which no text can end a `<script>`.
    facts: str
    #: Of which one is chosen at a time.
    students: tuple[str, ...]
    #: Height and width of an image.
    size: tuple[int, int]
    has_samples: bool

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Trial:
        """The trial of facts as the script reads them."""
        students = tuple(each["name"] for each in facts["models"] if each["role"] == "student")
        text = json.dumps(facts, separators=(",", ":"), allow_nan=False)
        for letter in "<>&":
            text = text.replace(letter, f"\\u{ord(letter):04x}")
        _, height, width = facts["shape"]
        return cls(text, students, (height, width), bool(facts["samples"]))

    @property
    def field(self) -> tuple[int, int]:
        """Width and height of the field to draw on."""
        height, width = self.size
        return round(FIELD * width / max(self.size)), round(FIELD * height / max(self.size))

    @property
    def script(self) -> str:
        """The script."""
        return _script()

    @property
    def allowed(self) -> str:
        """What a page's Content-Security-Policy says of the script: that one, and no other."""
        return f"'sha256-{base64.b64encode(hashlib.sha256(_script().encode()).digest()).decode()}'"


@cache
def _script() -> str:
    texts = ((files("distill_queue.shared.report") / name).read_text(encoding="utf-8") for name in SCRIPT)
    return '\n"use strict";\n' + "".join(texts)
