"""YAML 1.2 that users write, as plain values with their lines; bounded before it costs time or memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from distill_queue.shared.files.markup import (
    DEEPEST,
    MOST_DIGITS,
    MOST_VALUES,
    Location,
    Malformed,
    require_plain,
    too_deep,
    too_long,
    too_many,
)
from distill_queue.shared.line import shortened

#: The most directives `%TAG`: the parser compares each of them with all others.
MOST_DIRECTIVES = 16


def parse_yaml(text: str) -> tuple[Any, dict[Location, int]]:
    """The value of a YAML document, and the line of each of its values; None for an empty document.

    Raises:
        Malformed: it is no YAML, has other than plain values, or is beyond the limits.

    """
    if text.count("%TAG") > MOST_DIRECTIVES:
        raise Malformed(f"not valid YAML: more than {MOST_DIRECTIVES} directives %TAG")
    try:
        node = _Composer(text).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise Malformed(f"not valid YAML: {error.problem or error.context}", line) from None
    except yaml.YAMLError as error:
        raise Malformed(f"not valid YAML: {str(error).splitlines()[0]}") from None
    except UnicodeEncodeError:
        raise Malformed("not valid YAML: it has half a character") from None
    if node is None:
        return None, {}
    value = _plain(node)
    require_plain(value)
    return value, dict(_lines(node, ()))


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain values as YAML that `parse_yaml` reads as they are, all of it ASCII: it may be copied from a page."""
    return yaml.dump(data, Dumper=_Yaml12Dumper, default_flow_style=None, sort_keys=False, width=110)


#: The scalars of YAML 1.2: `no` is text, `1e-3` a number, a date is text. Tag, pattern and first characters.
_SCALARS = (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)
_TAG = "tag:yaml.org,2002:"
_PATTERNS = {f"{_TAG}{name}": re.compile(pattern) for name, pattern, _ in _SCALARS}
#: libyaml's parser where PyYAML has it, as its wheels do: twenty times as fast.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Yaml12Dumper(yaml.SafeDumper):
    """Writes YAML for the parser above: text that looks like a number, as `1e3`, is quoted."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (annotated in the base class)
        "<": yaml.SafeDumper.yaml_implicit_resolvers["<"]
    }


for _name, _pattern, _first in _SCALARS:
    _starts = [*_first, *([""] if _name == "null" else [])]
    _Yaml12Dumper.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _starts)


@dataclass(slots=True)
class _Entry:
    """A value of a mapping, and its key."""

    key: Any
    line: int
    node: _Node


@dataclass(slots=True)
class _Node:
    """A value as it is written; `content` is a scalar, a list of nodes, or entries by their keys' texts."""

    line: int
    content: Any
    #: How many values it stands for, including itself, and how deeply these are nested.
    size: int = 1
    height: int = 0

    @classmethod
    def of(cls, line: int, content: Any, inside: list[_Node]) -> _Node:
        """A list or a mapping of other nodes."""
        return cls(line, content, 1 + sum(each.size for each in inside), 1 + max((n.height for n in inside), default=0))


class _Composer:
    """Makes nodes of YAML's events, and stops at the first one that is too many or too deep."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, _PARSER)
        self._anchors: dict[str, _Node | None] = {}
        self._count = 0

    def document(self) -> _Node | None:
        """The only document of the text."""
        next(self._events)
        if isinstance(next(self._events), yaml.StreamEndEvent):
            return None
        node = self._node(next(self._events), 0)
        next(self._events)
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise Malformed("not valid YAML: expected a single document in the stream", _line(event))
        return node

    def _node(self, event: Any, depth: int) -> _Node:
        line = _line(event)
        if depth > DEEPEST:
            raise too_deep(line)
        if isinstance(event, yaml.AliasEvent):
            return self._anchored(event, depth)
        self._add(1, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = _Node(line, _scalar(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _add(self, values: int, line: int) -> None:
        self._count += values
        if self._count > MOST_VALUES:
            raise too_many(line)

    def _anchored(self, event: Any, depth: int) -> _Node:
        if event.anchor not in self._anchors:
            raise Malformed(f"not valid YAML: found undefined alias '{shortened(event.anchor, 100)}'", _line(event))
        if (node := self._anchors[event.anchor]) is None:
            alias = f"'*{shortened(event.anchor, 100)}'"
            raise Malformed(f"{alias} is an alias of the value that it stands in", _line(event))
        if depth + node.height > DEEPEST:
            raise too_deep(_line(event))
        self._add(node.size, _line(event))
        return node

    def _list(self, start: Any, depth: int) -> _Node:
        _require_tag(start, "seq")
        items = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._node(event, depth + 1))
        return _Node.of(_line(start), items, items)

    def _mapping(self, start: Any, depth: int) -> _Node:
        _require_tag(start, "map")
        entries: dict[str, _Entry] = {}
        merged: list[_Node] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            is_merge = isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]
            key, text = self._key(event, depth)
            node = self._node(next(self._events), depth + 1)
            if is_merge:
                merged += _mappings_in(node)
            elif text in entries:
                raise Malformed(f"the key '{shortened(text, 100)}' stands here twice", key.line)
            else:
                entries[text] = _Entry(key.content, key.line, node)
        brought = {text: entry for each in reversed(merged) for text, entry in each.content.items()}
        self._add(sum(entry.node.size for entry in brought.values()), _line(start))
        entries = brought | entries
        return _Node.of(_line(start), entries, [entry.node for entry in entries.values()])

    def _key(self, event: Any, depth: int) -> tuple[_Node, str]:
        """A key, and its text as it is written."""
        node = None
        if isinstance(event, yaml.AliasEvent):
            node = self._anchored(event, depth)
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(_line(event), _scalar(event))
            if event.anchor is not None:
                self._anchors[event.anchor] = node
        if node is None or isinstance(node.content, list | dict):
            raise Malformed("not valid YAML: a key is text, not a list or a mapping", _line(event))
        return node, event.value if isinstance(event, yaml.ScalarEvent) else str(node.content)


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _mappings_in(node: _Node) -> list[_Node]:
    """What `<<` brings: a mapping, or those of a list."""
    found = node.content if isinstance(node.content, list) else [node]
    if not all(isinstance(each.content, dict) for each in found):
        raise Malformed("not valid YAML: '<<' needs a mapping, or a list of such", node.line)
    return found


def _require_tag(event: Any, name: str) -> None:
    if event.tag not in (None, "!", f"{_TAG}{name}"):
        raise _unknown_tag(event)


def _scalar(event: Any) -> Any:
    """The value of a scalar, by its tag or by how it looks."""
    text, line = event.value, _line(event)
    if event.tag in (None, "!") or event.implicit[0]:
        plain = event.implicit[0]
        tag = next((tag for tag, pattern in _PATTERNS.items() if plain and pattern.fullmatch(text)), f"{_TAG}str")
    elif event.tag not in (*_PATTERNS, f"{_TAG}str"):
        raise _unknown_tag(event)
    else:
        tag = event.tag
        if tag in _PATTERNS and not _PATTERNS[tag].fullmatch(text):
            raise Malformed(f"'{shortened(text, 60)}' is no {tag.removeprefix(_TAG)}", line)
    match tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            # Python refuses thousands of digits, in words of its own.
            if len(text.lstrip("+-")) > MOST_DIGITS:
                raise too_long(line)
            return int(text)
        case "float":
            return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
        case _:
            return text


def _unknown_tag(event: Any) -> Malformed:
    tag = shortened(str(event.tag), 100)
    return Malformed(f"not valid YAML: could not determine a constructor for the tag '{tag}'", _line(event))


def _plain(node: _Node) -> Any:
    """The value of a node; each alias gets a value of its own, so that it can be changed alone."""
    if isinstance(node.content, list):
        return [_plain(each) for each in node.content]
    if isinstance(node.content, dict):
        return {entry.key: _plain(entry.node) for entry in node.content.values()}
    return node.content


def _lines(node: _Node, location: Location) -> Iterator[tuple[Location, int]]:
    """The line of each value, or that of its key if it has one."""
    yield location, node.line
    if isinstance(node.content, list):
        for index, each in enumerate(node.content):
            yield from _lines(each, (*location, index))
    elif isinstance(node.content, dict):
        for text, entry in node.content.items():
            yield from _lines(entry.node, place := (*location, text))
            yield place, entry.line
