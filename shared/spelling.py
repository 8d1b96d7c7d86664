"""Spelling: what names may be made of, and which rule one breaks."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from distill_queue.shared.errors import UnknownPipeline

#: The most characters of a name: it becomes part of ids, of folders and of the names of files.
LONGEST = 63
#: The most characters of a pipeline's id.
LONGEST_ID = 100


@dataclass(frozen=True, slots=True)
class Spelling:
    """What names of a kind may be made of; the characters as in a regular expression's brackets."""

    #: What messages call it, as in 'no valid name'.
    noun: str
    #: The characters that may come first, and those that may follow.
    first: str
    others: str
    #: The same in words.
    first_in_words: str
    others_in_words: str
    #: A text that stands before the name, as a regular expression; messages about faults leave it out.
    prefix: str = ""

    @property
    def pattern(self) -> str:
        """The same as a regular expression."""
        return f"^{self.prefix}[{self.first}][{self.others}]{{0,{LONGEST - 1}}}$"

    def fault(self, text: str) -> str:
        """Why a text that begins with the prefix is no such name; empty where it is one."""
        name = text.removeprefix(self.prefix)
        if not name:
            why = "it is empty"
        elif not re.match(f"[{self.first}]", name):
            why = f"it begins with {_shown(name[0])}, not with {self.first_in_words}"
        elif wrong := re.search(f"[^{self.others}]", name):
            why = f"{_shown(wrong[0])} is none of {self.others_in_words}"
        elif len(name) > LONGEST:
            why = f"it has {len(name):,} characters, {LONGEST} are the most"
        else:
            return ""
        return f"no valid {self.noun}: {why}"


def is_pipeline_id(text: str) -> bool:
    """Whether a text can be the id of a pipeline, and so a file's name: the pipeline's name and some characters."""
    return len(text) <= LONGEST_ID and re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", text) is not None


def pipeline_id(text: str) -> str:
    """Return a text that can be the id of a pipeline, which is the pipeline's name and some characters.

    Raises:
        UnknownPipeline: no pipeline has such an id.

    """
    if not is_pipeline_id(text):
        raise UnknownPipeline(f"{text[:LONGEST_ID]!a} is no pipeline's id")
    return text


def _shown(character: str) -> str:
    """A character between quotes, with its number if it may look like another character, or like nothing."""
    if character.isascii() and character.isprintable():
        return f"'{character}'"
    return f"'{character}' (U+{ord(character):04X})" if character.isprintable() else f"U+{ord(character):04X}"


_LETTER = "a letter (A to Z, a to z)"
_LETTERS = "letters (A to Z, a to z), digits"
#: Of pipelines and students.
NAME = Spelling("name", "A-Za-z0-9", "A-Za-z0-9_.-", f"{_LETTER} or digit", f"{_LETTERS}, '_', '.' and '-'")
#: How workers' names begin; Celery replaces `%i` and its like.
WORKER_NAME = Spelling(
    "name", "A-Za-z0-9%", "A-Za-z0-9_.%-", f"{_LETTER}, digit or '%'", f"{_LETTERS}, '_', '.', '-' and '%'"
)
#: Of torchvision's models, and of their weights.
TORCHVISION = Spelling(
    noun="name of a model",
    first="a-z0-9_",
    others="a-z0-9_",
    first_in_words="a small letter (a to z), digit or '_'",
    others_in_words="small letters (a to z), digits and '_'",
    prefix="torchvision/",
)
#: Of the models of the library timm; a tag of weights behind a dot is a field of its own.
TIMM = replace(
    TORCHVISION,
    others_in_words=f"{TORCHVISION.others_in_words}; a tag of weights is said as weights: a1_in1k",
    prefix="timm/",
)
WEIGHTS = Spelling("name of weights", "A-Za-z0-9_", "A-Za-z0-9_", f"{_LETTER}, digit or '_'", f"{_LETTERS} and '_'")
