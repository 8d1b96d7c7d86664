"""Markup: plain values of YAML, JSON and TOML, and the limits at which they are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from distill_queue.shared.files import yaml_text
from distill_queue.shared.files.markup import Malformed, parse_json, parse_toml, require_plain
from distill_queue.shared.files.yaml_text import dump_yaml, parse_yaml
from tests.properties import examples


def doubled(first: str, next_one: str, levels: int) -> str:
    """A YAML list in which each anchor stands for twice as many values as the one before it."""
    return "\n".join([f"- &a0 {first}", *(f"- &a{n} " + next_one.replace("*", f"*a{n - 1}") for n in range(1, levels))])


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("name: !!bool abc", 1, "'abc' is no bool"),
        ("a: 1\nname: !!int x", 2, "'x' is no int"),
        ("name: !!int [1]", 1, "could not determine a constructor for the tag 'tag:yaml.org,2002:int'"),
        ("name: !!float x", 1, "'x' is no float"),
        ("name: !!timestamp 2020-99-99", 1, "could not determine a constructor for the tag"),
        ("name: !!seq x", 1, "could not determine a constructor for the tag"),
        ("name: !own x", 1, "could not determine a constructor for the tag '!own'"),
        ("&a [*a]", 1, "'*a' is an alias of the value that it stands in"),
        ("&a {a: {b: *a}}", 1, "'*a' is an alias of the value that it stands in"),
        ("name: *a", 1, "found undefined alias 'a'"),
        ("[a]: 1", 1, "a key is text, not a list or a mapping"),
        ("? {a: 1}\n: 1", 1, "a key is text, not a list or a mapping"),
        ("a: &a []\n*a : 1", 2, "a key is text, not a list or a mapping"),
        ("name: a\nname: b", 2, "the key 'name' stands here twice"),
        ("1: a\n'1': b", 2, "the key '1' stands here twice"),
        ("<<: 1", 1, "'<<' needs a mapping, or a list of such"),
        ("<<: [1]", 1, "'<<' needs a mapping, or a list of such"),
        ("a: 1\n---\nb: 2", 2, "expected a single document"),
        ("name: " + "9" * 5_001, 1, "a number of more than 300 digits"),
        ('name: "\\UFFFFFFFF"', 1, "not valid YAML"),
        ("name: \udcff", None, "half a character"),
        ("name: \0", None, "not valid YAML"),
        ("[" * 5_000, 1, "nested too deeply: more than 64 levels"),
        ("{a: " * 900 + "1" + "}" * 900, 1, "nested too deeply"),
        ("".join(" " * n + "a:\n" for n in range(900)), 66, "nested too deeply"),
        ("- " * 100_000, 1, "nested too deeply"),
        (doubled("[x, x]", "[*, *]", 60), 14, "more than 50,000 values"),
        (doubled("{x: x}", "{a: *, b: *}", 60), 15, "more than 50,000 values"),
        (doubled("[x]", "[*]", 100), 64, "nested too deeply"),
        ("[" + "1," * 60_000 + "]", 1, "more than 50,000 values"),
        ("a: &a [1]\nb: [" + "*a," * 60_000 + "]", 2, "more than 50,000 values"),
        ("".join(f"%TAG !a{n}! x\n" for n in range(50_000)) + "---\na: 1", None, "more than 16 directives"),
    ],
)  # fmt: skip
def test_yaml_that_is_wrong_or_too_much_is_told_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(Malformed) as raised:
        parse_yaml(text)

    assert (raised.value.line, message in str(raised.value), len(str(raised.value)) < 200) == (line, True, True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{a: no, b: 1e-3, c: 010, d: 2020-01-01, e: ~, f: }",
         {"a": "no", "b": 1e-3, "c": 10, "d": "2020-01-01", "e": None, "f": None}),
        ("{a: !!str 5, b: !!int '7', c: !!float 1, d: '5', e: !!null '', f: !!bool true}",
         {"a": "5", "b": 7, "c": 1.0, "d": "5", "e": None, "f": True}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
        ("a: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}", {"a": {"x": 1, "y": 2, "z": 3}}),
        ("a: &a text\nb: *a\n*a : 1", {"a": "text", "b": "text", "text": 1}),
        ("{1: a, false: b, ~: c, '<<': d}", {1: "a", False: "b", None: "c", "<<": "d"}),
        ("a: " + "[" * 63 + "]" * 63, {"a": eval("[" * 63 + "]" * 63)}),
        ("", None),
        ("# nothing", None),
    ],
)  # fmt: skip
def test_yaml_has_the_scalars_of_version_1_2_anchors_and_merges(text: str, value: Any) -> None:
    assert parse_yaml(text)[0] == value


def test_what_an_alias_stands_for_can_be_changed_alone() -> None:
    value, _ = parse_yaml("a: &a {x: [1]}\nb: *a")

    value["b"]["x"].append(2)

    assert value == {"a": {"x": [1]}, "b": {"x": [1, 2]}}


def test_the_lines_of_what_comes_by_an_alias_are_those_where_it_stands() -> None:
    _, lines = parse_yaml("a: &a\n  x: 1\nb:\n  c: *a\nd: {<<: *a, y: 2}\ne:\n- 1\n- 2")

    assert {".".join(map(str, place)): line for place, line in lines.items()} == {
        "": 1, "a": 1, "a.x": 2, "b": 3, "b.c": 4, "b.c.x": 2, "d": 5, "d.x": 2, "d.y": 5, "e": 6, "e.0": 7, "e.1": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_json, "{" + ",".join(f'"k{n}":1' for n in range(60_000)) + "}", "more than 50,000 values"),
        (parse_json, '{"a":1,"b":2,"a":3}', "the key 'a' stands there twice in one mapping"),
        (parse_json, '{"a":' * 900 + "1" + "}" * 900, "nested too deeply"),
        (parse_json, "[" * 100_000, "nested too deeply"),
        (parse_json, '{"a":' + "9" * 5_001 + "}", "a number of more than 300 digits"),
        (parse_json, '{"a":' + "9" * 400 + "}", "a number of more than 300 digits"),
        (parse_json, '{"\\ud800":1}', "an escape that is no character"),
        (parse_json, '{"a":\n', "not valid JSON"),
        (parse_toml, ".".join("a" * 50_000) + "=1", "nested too deeply"),
        (parse_toml, "[" + " . ".join(["'a'", '"b"', "c"] * 22) + "]", "nested too deeply"),
        (parse_toml, "".join(f"[{'.'.join('a' * n)}]\n" for n in range(1, 900)), "nested too deeply"),
        (parse_toml, "a=" + "[" * 900 + "]" * 900, "nested too deeply"),
        (parse_toml, "a=" + "{a=" * 900 + "1" + "}" * 900, "nested too deeply"),
        (parse_toml, "".join(f"[a{n}]\n" for n in range(100_000)), "more than 50,000 values"),
        (parse_toml, "a=" + "9" * 5_001, "a number of more than 300 digits"),
        (parse_toml, "a=0x" + "f" * 50_000, "a number of more than 300 digits"),
        (parse_toml, "a=2021-13-45", "not valid TOML"),
        (parse_toml, "a=1\na=2", "not valid TOML"),
    ],
)  # fmt: skip
def test_json_and_toml_have_the_same_limits(parse: Callable[[str], Any], text: str, message: str) -> None:
    with pytest.raises(Malformed, match=message) as raised:
        parse(text)

    assert len(str(raised.value)) < 200


def test_long_keys_in_toml_are_told_from_text_with_many_dots() -> None:
    text = f'a = "{"." * 1_000}"\nb = "{"1.5 " * 100}"\n{".".join("c" * 60)} = 1\n# {"... " * 100}\n'

    assert parse_toml(text)["a"] == "." * 1_000


def test_a_value_that_is_part_of_itself_is_nested_too_deeply() -> None:
    value: dict[str, Any] = {}
    value["value"] = [value]

    with pytest.raises(Malformed, match="nested too deeply"):
        require_plain(value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**299), 10**299) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("parser", [yaml_text._PARSER, yaml.SafeLoader])
@examples(40)
@given(data=st.dictionaries(st.text(max_size=8), plain, max_size=4))
def test_what_is_written_as_yaml_is_read_as_it_was(parser: Any, data: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yaml_text, "_PARSER", parser)

        assert parse_yaml(dump_yaml(data))[0] == data
