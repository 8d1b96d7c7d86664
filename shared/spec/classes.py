"""The classes that a given teacher tells apart, by their names, and which of its outputs are the data's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from distill_queue.shared.catalog import did_you_mean
from distill_queue.shared.errors import InvalidInput, InvalidSpec
from distill_queue.shared.files.given_file import read_text
from distill_queue.shared.files.markup import Malformed, parse_json
from distill_queue.shared.line import listed

#: The most classes of a teacher, and bytes of a file of their names.
MOST_CLASSES = 50_000
MOST_BYTES = 5_000_000
#: Names that a message lists.
MOST_NAMED = 5
#: Of Hugging Face's, in a folder of a model: what it is, with the names of its classes.
CONFIG = "config.json"
#: How Hugging Face's libraries begin names of classes that were given none.
_NAMELESS = "LABEL_"

ClassNames = Annotated[
    tuple[Annotated[str, Field(max_length=1_000)], ...], Field(strict=False, min_length=2, max_length=MOST_CLASSES)
]
#: Names in the order of a teacher's outputs, or the path of a file that has them.
Classes = Annotated[
    Annotated[str, Tag("path")] | Annotated[ClassNames, Tag("names")],
    Discriminator(lambda value: "path" if isinstance(value, str) else "names"),
]


def outputs_of(data: Sequence[str], teacher: Sequence[str]) -> tuple[int, ...]:
    """For each class of the data, the number of the teacher's output that is of it.

    Args:
        data: the names of the data's classes in the order of their numbers.
        teacher: the names of the teacher's classes in the order of its outputs.

    Raises:
        InvalidSpec: the teacher does not know a class, or has one twice.

    """
    if twice := [name for name, count in Counter(teacher).items() if count > 1]:
        raise InvalidSpec(f"two of the teacher's classes are called {twice[0]!r}")
    places = {name: place for place, name in enumerate(teacher)}
    if missing := [name for name in data if name not in places]:
        known = teacher if len(teacher) <= MOST_NAMED * 4 else ()
        hint = did_you_mean(missing[0], known or teacher)
        hint = hint if known else hint.partition(" (known: ")[0]
        named = listed([repr(name) for name in missing], MOST_NAMED)
        raise InvalidSpec(f"the teacher's {len(teacher):,} classes lack {named} of the data's {len(data):,}{hint}")
    return tuple(places[name] for name in data)


def classes_in(path: Path, called: str) -> tuple[str, ...]:
    """The names of classes in a file: a line each, or JSON: a list, or a Hugging Face model's configuration.

    Raises:
        InvalidSpec: it cannot be read, or has no such names.

    """
    try:
        text = read_text(path, MOST_BYTES)
        if path.suffix == ".json":
            names = _of_json(parse_json(text))
        else:
            names = tuple(line.strip() for line in text.removeprefix("\ufeff").splitlines() if line.strip())
    except (InvalidInput, Malformed) as error:
        raise InvalidSpec(f"{called}: {str(error).removeprefix(f'{path}: ')}") from error
    if not 2 <= len(names) <= MOST_CLASSES:
        raise InvalidSpec(f"{called}: has {len(names):,} names of classes: a line each is needed, or a list in JSON")
    return names


def classes_beside(folder: Path, called: str) -> tuple[str, ...] | None:
    """The names of classes in the configuration of a Hugging Face model's folder; None where it gives none.

    Raises:
        InvalidSpec: the configuration cannot be read.

    """
    path = folder / CONFIG
    if not path.is_file():
        return None
    try:
        names = _of_json(parse_json(read_text(path, MOST_BYTES)))
    except (InvalidInput, Malformed) as error:
        raise InvalidSpec(f"{called}/{CONFIG}: {str(error).removeprefix(f'{path}: ')}") from error
    return names if len(names) >= 2 and not all(name.startswith(_NAMELESS) for name in names) else None


def _of_json(value: Any) -> tuple[str, ...]:
    """The names in a list, in a mapping of numbers to names, or in `id2label` of a configuration."""
    if isinstance(value, dict):
        value = value.get("id2label", value)
    if isinstance(value, dict):
        numbered = {int(number): name for number, name in value.items() if str(number).isdecimal()}
        value = [numbered.get(number) for number in range(len(value))]
    return tuple(value) if isinstance(value, list) and all(isinstance(name, str) for name in value) else ()
