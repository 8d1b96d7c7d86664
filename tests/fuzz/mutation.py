"""Mutations: inputs that are nearly right, from a seeded generator and examples of what is right."""

from __future__ import annotations

import copy
import json
import random
import re
import struct
from collections.abc import Sequence
from typing import Any

#: Numbers at which something may break: of bytes, floats, clocks and memory.
NUMBERS: tuple[int | float, ...] = (
    0, -1, 1, 2, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**15, 10**30,
    10**400, 0.0, -0.0, 1e-300, 1e300, float("nan"), float("inf"), float("-inf"), 1.5,
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "a\0b", "\ud800", "\x1b[2J", "\n", "..", "../../x", "/", "/dev/zero", "/dev/null", "a/b", "é", "𝔘",
    "‮", "nan", "1e999", "true", "null", "{}", "[]", "%s", "{0}", "x" * 5_000, "." * 2_000, "[" * 2_000, "9" * 5_000,
    "!!int x", "&a [*a]", "*a", "__class__", "pickle", "0" * 64, "2026-01-01",
)  # fmt: skip
VALUES: tuple[Any, ...] = (None, True, False, [], {}, [[]], {"": {}}, [None], *NUMBERS, *TEXTS)

#: Values in a tree, at about the most: a few changes could make millions of them.
MOST_PLACES = 20_000

_DIGITS = re.compile(rb"\d+")


def mutated(generator: random.Random, examples: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """One of some examples, changed in a few places as bytes."""
    data = bytearray(generator.choice(examples))
    for _ in range(1 + int(generator.expovariate(0.7))):
        _change(generator, data, examples, words)
    return bytes(data)


def mutated_tree(generator: random.Random, examples: Sequence[Any]) -> Any:
    """One of some JSON values, changed in a few places."""
    tree = [copy.deepcopy(generator.choice(examples))]
    for _ in range(1 + int(generator.expovariate(0.7))):
        places = list(_places(tree))
        holder, key = generator.choice(places)
        match generator.randrange(8):
            case 0 | 1 | 2:
                holder[key] = copy.deepcopy(generator.choice(VALUES))
            case 3 if len(places) < MOST_PLACES:
                other, at = generator.choice(places)
                holder[key] = copy.deepcopy(other[at])
            case 4 if isinstance(holder, dict) and len(places) < MOST_PLACES:
                holder[generator.choice((*TEXTS, "format", "version", key + "x"))] = holder[key]
            case 5 if isinstance(holder, dict) or len(holder) > 1:
                del holder[key]
            case 6:
                for _ in range(generator.choice((1, 1, 2, 50, 150))):
                    holder[key] = generator.choice((lambda it: [it], lambda it: {"a": it}))(holder[key])
            case 7 if isinstance(holder[key], list):
                holder[key] = holder[key] * min(generator.choice((0, 2, 3, 300)), MOST_PLACES // len(places))
            case _:
                holder[key] = str(holder[key])[:5_000] if not isinstance(holder[key], str) else [holder[key]]
        if len(tree) != 1:
            tree = [tree]
    return tree[0]


def as_json(generator: random.Random, tree: Any) -> bytes:
    """A tree as JSON; now and then with a change in its text besides."""
    text = json.dumps(tree, ensure_ascii=generator.random() < 0.9).encode("utf-8", "surrogatepass")
    return mutated(generator, [text]) if generator.random() < 0.2 else text


def _change(generator: random.Random, data: bytearray, examples: Sequence[bytes], words: Sequence[bytes]) -> None:
    """One change in place."""
    at = generator.randint(0, len(data))
    length = min(len(data) - at, int(generator.expovariate(0.05)))
    match generator.randrange(10):
        case 0 if at < len(data):
            data[at] ^= 1 << generator.randrange(8)
        case 1 if at < len(data):
            data[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)))
        case 2:
            del data[at : at + length]
        case 3:
            data[at:at] = data[at : at + length] * generator.choice((1, 2, 100))
        case 4:
            del data[at:]
        case 5:
            other = generator.choice(examples)
            start = generator.randint(0, len(other))
            data[at : at + length] = other[start : start + generator.randint(0, 200)]
        case 6:
            word = generator.choice(TEXTS).encode("utf-8", "surrogatepass")
            data[at : at + generator.choice((0, length))] = generator.choice((word, *words))
        case 7 if found := list(_DIGITS.finditer(data)):
            match = generator.choice(found)
            data[match.start() : match.end()] = str(generator.choice(NUMBERS)).encode()
        case 8 if len(data) >= 8:
            place, size = generator.randint(0, len(data) - 8), generator.choice((2, 4, 8))
            number = int(generator.choice([each for each in NUMBERS if isinstance(each, int)]))
            data[place : place + size] = struct.pack("<Q", number % 2**64)[:size]
        case _:
            data[at:at] = bytes([generator.randrange(256)] * generator.choice((1, 1, 8, 3_000)))


def _places(tree: Any) -> Any:
    """Each place of a tree: what holds it, and its key or index there."""
    stack = [tree]
    while stack:
        holder = stack.pop()
        for key in holder if isinstance(holder, dict) else range(len(holder)):
            yield holder, key
            if isinstance(holder[key], dict | list):
                stack.append(holder[key])
