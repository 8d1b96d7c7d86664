"""A spec's file: its plain values, and the line on which each of them stands."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import ValidationError

from shared.errors import InvalidSettings, InvalidSpec

MAX_BYTES = 1_000_000
#: Values in one spec, aliases written out: ends alias bombs before they grow.
MAX_VALUES = 50_000

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class SpecFile:
    """A parsed file; `lines` gives the line of a field's location, where the format tells it."""

    path: Path
    data: Any
    lines: dict[Location, int]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a `.yaml`, `.yml`, `.json` or `.toml` file.

        Raises:
            InvalidSpec: the file is missing, too large, or not of its format.

        """
        text = _read_text(path)
        match path.suffix.lower():
            case ".yaml" | ".yml":
                data, lines = _parse_yaml(path, text)
            case ".json":
                data, lines = _parse_json(path, text), {}
            case ".toml":
                data, lines = _parse_toml(path, text), {}
            case suffix:
                raise InvalidSpec(f"{path}: unknown format '{suffix}': use .yaml, .toml or .json")
        if not isinstance(data, dict):
            raise InvalidSpec(f"{path}: a spec is a mapping with the keys name, teacher and students")
        _require_text(path, data)
        return cls(path, data, lines)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Self:
        """A mapping as if it stood in a file.

        Raises:
            InvalidSpec: it holds text that no file could.

        """
        _require_text(Path("spec"), values)
        return cls(Path("spec"), values, {})

    @staticmethod
    def written(data: dict[str, Any]) -> str:
        """Plain values as YAML that `read` reads as they are, all of it ASCII: it may be copied from a page."""
        return yaml.dump(data, Dumper=_Yaml12Dumper, default_flow_style=None, sort_keys=False, width=110)

    def changed(self, changes: Sequence[str]) -> Self:
        """The same with some values set, each as `students.0.distillation.temperature=2`; a value is YAML.

        Raises:
            InvalidSettings: a change is not of this form, or names no place in the spec.

        """
        data = copy.deepcopy(self.data)
        for change in changes:
            place, equals, text = change.partition("=")
            if not equals or not all(place.split(".")):
                raise InvalidSettings(f"--set {change}: write it as students.0.distillation.temperature=2")
            try:
                value = yaml.load(text, _Yaml12Loader)  # noqa: S506 (its base is the safe loader)
            except yaml.YAMLError as error:
                raise InvalidSettings(f"--set {change}: not valid YAML: {str(error).splitlines()[0]}") from None
            _put(data, place.split("."), value, change)
        _require_text(self.path, data)
        return replace(self, data=data)

    def explain(self, error: ValidationError, inside: Location = ()) -> str:
        """One line for each mistake: file, line, field, and what would be right; `inside` is the part that was read."""
        return "\n".join(self.at(place, words) for place, words in self.mistakes(error, inside))

    def mistakes(self, error: ValidationError, inside: Location = ()) -> Iterator[tuple[Location, str]]:
        """Where each mistake is, and what would be right."""
        found = error.errors(include_url=False)
        for each in found:
            if not (each["type"] == "too_short" and _has_mistakes_inside(each["loc"], found)):
                yield self._field_of({**each, "loc": (*inside, *each["loc"])}), _in_words(each)

    def at(self, location: Location, message: str) -> str:
        """A message with the place that it speaks of before it."""
        line = next((self.lines[location[:n]] for n in range(len(location), 0, -1) if location[:n] in self.lines), None)
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")
        place = f"{self.path}:{line}" if line else str(self.path)
        return f"{place}: {field}: {message}" if field else f"{place}: {message}"

    def _field_of(self, error: Any) -> Location:
        """Pydantic's location without the tags that it adds for unions, and with the key that a message names."""
        field: list[str | int] = []
        location, key, value = error["loc"], error.get("ctx", {}).get("key"), self.data
        for position, part in enumerate(location):
            known = part in value if isinstance(value, dict) else isinstance(part, int)
            if known or (position == len(location) - 1 and error["type"] == "missing"):
                field.append(part)
                value = value[part] if known else None
        return (*field, *key.split(".")) if key is not None else tuple(field)


def _put(data: Any, place: list[str], value: Any, change: str) -> None:
    """Set a value deep in mappings and lists; mappings on the way are made."""
    for position, part in enumerate(place):
        last = position == len(place) - 1
        if isinstance(data, list):
            if not part.isdecimal() or int(part) >= len(data):
                where = ".".join(place[:position])
                raise InvalidSettings(f"--set {change}: '{where}' has items 0 to {len(data) - 1}, and no '{part}'")
            if last:
                data[int(part)] = value
            else:
                data = data[int(part)]
        elif isinstance(data, dict):
            if last:
                data[part] = value
            else:
                data = data.setdefault(part, {})
        else:
            raise InvalidSettings(f"--set {change}: '{'.'.join(place[:position])}' is a value, and has no '{part}'")


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidSpec(f"{path}: larger than {MAX_BYTES:,} bytes: this is no spec")
        return path.read_text("utf-8")
    except OSError as error:
        raise InvalidSpec(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InvalidSpec(f"{path}: not UTF-8 text (byte {error.start})") from None


def _require_text(path: Path, data: Any) -> None:
    """Refuse escaped halves of characters, which no message, file or broker could carry."""
    try:
        json.dumps(data, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise InvalidSpec(f"{path}: has an escape that is no character") from None


def _parse_json(path: Path, text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if twice := next((key for key in keys if keys.count(key) > 1), None):
            raise InvalidSpec(f"{path}: the key '{twice}' stands there twice in one mapping")
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InvalidSpec(f"{path}:{error.lineno}: not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise InvalidSpec(f"{path}: nested too deeply, or a number too long") from None


def _parse_toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidSpec(f"{path}: not valid TOML: {error or 'nested too deeply'}") from None


class _Yaml12Loader(yaml.SafeLoader):
    """YAML with the scalars of version 1.2: `no` is text, `1e-3` a number, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class says what it is)
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Yaml12Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
# PyYAML reads 010 as octal and knows sexagesimal numbers; version 1.2 does not.
_Yaml12Loader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))
_Yaml12Loader.add_constructor(
    "tag:yaml.org,2002:float", lambda _loader, node: float(re.sub(r"\.(?=inf|nan)", "", str(node.value).lower()))
)


class _Yaml12Dumper(yaml.SafeDumper):
    """YAML for the loader above: what it would take for a number, as `1e3`, is quoted where it is text."""

    yaml_implicit_resolvers = _Yaml12Loader.yaml_implicit_resolvers


def _parse_yaml(path: Path, text: str) -> tuple[Any, dict[Location, int]]:
    try:
        loader = _Yaml12Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise InvalidSpec(f"{path}: the file is empty")
        lines: dict[Location, int] = {}
        _walk(path, node, (), lines)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidSpec(f"{path}{line}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise InvalidSpec(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise InvalidSpec(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise InvalidSpec(f"{path}: {error}") from None


def _walk(path: Path, node: yaml.Node, location: Location, lines: dict[Location, int]) -> None:
    """Note the line of every field; refuse duplicate keys and alias bombs."""
    lines[location] = node.start_mark.line + 1
    if len(lines) > MAX_VALUES:
        raise InvalidSpec(f"{path}: more than {MAX_VALUES:,} values, aliases written out")
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _walk(path, child, (*location, index), lines)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            place = (*location, str(key.value))
            if place in lines:
                raise InvalidSpec(f"{path}:{key.start_mark.line + 1}: the key '{key.value}' stands here twice")
            _walk(path, child, place, lines)
            lines[place] = key.start_mark.line + 1


def _has_mistakes_inside(location: Location, mistakes: list[Any]) -> bool:
    """Pydantic also calls a list too short when each of its items is refused."""
    return any(len(m["loc"]) > len(location) and m["loc"][: len(location)] == location for m in mistakes)


def _in_words(error: Any) -> str:
    """Pydantic's message in the words of someone who writes specs."""
    given = json.dumps(error["input"], default=str, ensure_ascii=False)
    given = given if len(given) <= 60 else given[:57] + "..."
    match error["type"]:
        case "missing":
            return "required key is missing"
        case "spelling":
            return f"{given} {error['msg']}"
        case "tuple_type" | "list_type":
            return f"a list is needed, not {given}"
        case "too_short":
            return "at least one is needed"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"a mapping is needed, not {given}"
        case "unknown_key" | "unknown_name" | "options" | "teacher" | "students" | "model":
            return str(error["msg"])
        case _:
            return f"{error['msg'][0].lower()}{error['msg'][1:]}, not {given}"
