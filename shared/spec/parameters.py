"""Parameters by name: shell patterns that choose some of a model's, and the order of its layers that the names tell."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from distill_queue.shared.line import listed
from distill_queue.shared.spec.part import SpecPart, at_most

#: Most patterns of one field, and of names that a message about a pattern lists.
MOST_PATTERNS, MOST_NEAR, MOST_LISTED = 100, 3, 10
#: Ends of the names of a batch norm's tensors that are no parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
#: Names of parts that come before all layers, and after them, wherever they are defined.
FIRST, LAST = ("embed", "stem", "patch"), ("head", "classifier", "fc")

#: A shell pattern, in which `*` also stands for dots.
Pattern = Annotated[str, Field(pattern=r"^[\w.*?\[\]!-]{1,200}$")]
Patterns = Annotated[tuple[Pattern, ...], Field(strict=False, max_length=MOST_PATTERNS), at_most(MOST_PATTERNS)]
Rate = Annotated[float, Field(gt=0.0, le=1e3)]


class PatternRate(SpecPart):
    """The learning rate of the parameters that a pattern matches."""

    pattern: Pattern
    """A shell pattern of names."""
    learning_rate: Rate
    """Their learning rate; in a schedule, the highest one."""


def _in_order(value: Any) -> Any:
    """The pairs of a mapping as a list, since the first pattern that matches is the one that counts."""
    if isinstance(value, dict):
        return tuple({"pattern": name, "learning_rate": rate} for name, rate in value.items())
    return value


#: A mapping from patterns to learning rates; or, as specs that are made from plans have it, a list of both.
PatternRates = Annotated[
    tuple[PatternRate, ...],
    Field(strict=False, max_length=MOST_PATTERNS),
    BeforeValidator(_in_order),
    WithJsonSchema({"type": "object", "additionalProperties": {"type": "number", "exclusiveMinimum": 0.0}}),
]


def without_buffers(tensors: Iterable[str]) -> list[str]:
    """The names of a model's parameters among those of all its tensors."""
    return [name for name in tensors if not name.endswith(BUFFERS)]


def matching(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The names that any of some patterns matches, in their own order."""
    patterns = tuple(patterns)
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def unmatched(pattern: str, names: Sequence[str]) -> str:
    """What is wrong with a pattern that matches none of some names, and what is near it; empty if it matches one."""
    if any(fnmatchcase(name, pattern) for name in names):
        return ""
    modules = dict.fromkeys(part for name in names for part in accumulate(name.split(".")[:-1], _join))
    known = [*(f"{module}.*" for module in modules), *names]
    if pattern in modules:
        return f"no parameter is named '{pattern}'; did you mean '{pattern}.*'?"
    if near := get_close_matches(pattern, known, n=MOST_NEAR, cutoff=0.6):
        return f"'{pattern}' matches no parameter; did you mean {' or '.join(map(repr, near))}?"
    begin = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return f"'{pattern}' matches no parameter; their names begin with {listed(begin, MOST_LISTED)}"


def depths(names: Sequence[str]) -> dict[str, int]:
    """How deep each parameter lies: 0 for embeddings, then layer by layer, the head deepest.

    Layers are what is numbered in the names, as `blocks.3.…`, `encoder.layer.11.…` or `layer4.…`: of several such
    numbers in a model, the outermost one that most parameters have. What is defined before the layers belongs to the
    embeddings, what comes after them to the head.

    Raises:
        ValueError: no layers are numbered.

    """
    places = {name: _outermost_number(name) for name in names}
    numbers, counts = defaultdict[str, set[int]](set), Counter[str]()
    for trunk, number in filter(None, places.values()):
        numbers[trunk].add(number)
        counts[trunk] += 1
    trunks = [trunk for trunk in numbers if len(numbers[trunk]) > 1] or list(numbers)
    if not trunks:
        raise ValueError("no layers are numbered in the names of the model's parameters, as in 'blocks.0.weight'")
    layers = max(trunks, key=counts.__getitem__)
    ranks = {number: rank for rank, number in enumerate(sorted(numbers[layers]), start=1)}
    found: dict[str, int] = {}
    end = 0
    for name, place in places.items():
        if place and place[0] == layers:
            found[name], end = ranks[place[1]], len(ranks) + 1
        elif _says(name, FIRST):
            found[name] = 0
        else:
            found[name] = len(ranks) + 1 if _says(name, LAST) else end
    return found


def _join(module: str, part: str) -> str:
    return f"{module}.{part}"


def _outermost_number(name: str) -> tuple[str, int] | None:
    """The first number in a parameter's name, and all that stands before it; None where there is no number."""
    found = re.match(r"((?:[^.]+\.)*?(?:[^.]*?[^.\d])?)(\d+)(?=\.)", name)
    return (found[1], int(found[2])) if found else None


def _says(name: str, words: tuple[str, ...]) -> bool:
    """Whether a part of a name begins with one of some words."""
    return any(part.startswith(words) for part in name.split("."))
