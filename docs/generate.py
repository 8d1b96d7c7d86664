"""The pages of reference, made from the code: `make docs` writes them, a test compares them with what is committed."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.machine.libraries import ENVIRONMENT

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by `make docs`: change the code that it is made from. -->"
#: What a student's grid becomes when a spec is read: no user writes it.
INTERNAL = {"StudentGrid", "GridPoint"}
#: JSON Schema's words, and ours.
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}

SPEC_HEAD = f"""{NOTE}

# Every key of a spec

What may stand where, with its default. [spec.md](spec.md) explains it; `distill schema` prints the same as JSON
Schema, for editors. Unknown keys, and options that would have no effect, are refused. In a student any value but its
name and seeds may be a grid, as `{{grid: [1, 2, 4]}}`.
"""
SETTINGS_HEAD = f"""{NOTE}

# Settings

Environment variables, read once when a process starts. `distill doctor` shows what comes of them; a value that cannot
be used ends a command at once, with the variable's name. An empty variable is as good as none.
"""
OTHER_VARIABLES = """
## Others

| variable | who reads it | meaning |
|---|---|---|
| `FLOWER_BASIC_AUTH` | Flower | `user:password`, several with commas; without a login, Flower lets in everybody |
| `FLOWER_USER`, `FLOWER_PASSWORD` | Flower | one more login; this password may have commas |
| `REDIS_PASSWORD`, `FLOWER_USER`, `FLOWER_PASSWORD` | Docker Compose, from `.env` | required |
| `FLOWER_PORT` | Docker Compose, from `.env` | Flower's port on 127.0.0.1; 5555 |
| `PYTHONPATH` | Python | where the packages in `DISTILL_PLUGINS` are found, if they are not installed |
| `PYTHON` | make | the Python that `.venv` is made with; `python3.11` |
| `DISTILL_TEST_BROWSER` | the tests | a Chromium to look at pages with |
"""

DECISIONS_HEAD = f"""{NOTE}

# Decisions

Why things are as they are: a record for each decision that took thought, with what was tried and dropped. A record is
not rewritten later: a new one says what is true now, and the old one's status names it.

A new record is a file `NNNN-title.md` with the next number:

```markdown
# What holds now, as a sentence

* Date: 2026-11-26
* Status: accepted

Five lines: what was needed, what was chosen, what it costs. Dropped: what else was thought of, and why not.
```

The status is `accepted`; later `amended by` or `superseded by`, and a link to the new record. `make docs` writes this
list.
"""
#: What each record begins with.
RECORD_HEAD = re.compile(
    r"# (?P<title>.+)\n\n"
    r"\* Date: (?P<date>\d{4}-\d\d-\d\d)\n"
    r"\* Status: (?P<status>accepted|(?:amended|superseded) by \[\d{4}\].*)\n\n\S"
)


def pages() -> dict[str, str]:
    """Each generated page's name and text."""
    return {
        "cli.md": cli_page(),
        "spec-reference.md": spec_page(),
        "settings.md": settings_page(),
        "decisions/README.md": decisions_page(),
    }


def cli_page() -> str:
    """What `--help` says of each command, by typer's own generator."""
    command = [sys.executable, "-m", "typer", "distill_queue.scheduler.cli.main", "utils", "docs", "--name", "distill"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True)  # noqa: S603 (ours)
    page = html.unescape(done.stdout)
    abouts = dict(re.findall(r"^#+ `distill (.+)`\n\n(.+)$", page, re.MULTILINE))
    lines, command_name = [], ""
    for line in page.splitlines():
        if heading := re.match(r"#+ `distill ?(.*)`", line):
            command_name = heading[1]
        listed = re.match(r"\* `([\w-]+)`: .*\.\.\.$", line)
        # The generator cuts what it lists at 45 characters.
        lines.append(f"* `{listed[1]}`: {abouts[f'{command_name} {listed[1]}'.strip()]}" if listed else line)
    return f"{NOTE}\n\n" + "\n".join(lines).strip() + "\n"


def spec_page() -> str:
    """Every key of a spec, one table a part."""
    schema = PipelineSpec.model_json_schema()
    lines = [SPEC_HEAD, *_table("Pipeline", schema)]
    for name in _in_order(schema):
        lines += _table(_title(name), schema["$defs"][name])
    return "\n".join(lines)


def settings_page() -> str:
    """Every environment variable."""
    schema = Settings.model_json_schema()
    rows = [
        (f"`DISTILL_{key.upper()}`", _setting_type(field), _default(field, required=False), field["description"])
        for key, field in schema["properties"].items()
    ]
    own = "\n".join(_rows(("variable", "type", "default", "meaning"), rows))
    libraries = "\n".join(
        f"| `{name}` | a worker (`python -P -m distill_queue.worker`); `{value}` if you say nothing | see `worker/machine/libraries.py` |"  # noqa: E501
        for name, value in ENVIRONMENT.items()
    )
    return f"{SETTINGS_HEAD}\n{own}\n{OTHER_VARIABLES}{libraries}\n"


def decisions_page() -> str:
    """The list of the records in docs/decisions, each with its date and status.

    Raises:
        ValueError: a record does not begin with its title, its date and its status.

    """
    rows = []
    for path in sorted((FOLDER / "decisions").glob("[0-9]*.md")):
        if not (head := RECORD_HEAD.match(path.read_text(encoding="utf-8"))):
            raise ValueError(f"{path.name} does not begin as a record does: see docs/decisions/README.md")
        rows.append((path.name[:4], f"[{head['title']}]({path.name})", head["date"], head["status"]))
    return f"{DECISIONS_HEAD}\n" + "\n".join(_rows(("number", "decision", "date", "status"), rows)) + "\n"


def _in_order(schema: dict[str, Any]) -> list[str]:
    """The parts of a spec, each after the one that names it first."""
    found: list[str] = []

    def visit(part: Any) -> None:
        for name in re.findall(r"#/\$defs/(\w+)", json.dumps(part)):
            if name not in found and name not in INTERNAL:
                found.append(name)
                visit(schema["$defs"][name])

    visit(schema["properties"])
    return found


def _table(title: str, part: dict[str, Any]) -> list[str]:
    required = part.get("required", [])
    rows = [
        (f"`{key}`", _type(field), _default(field, required=key in required), field["description"])
        for key, field in part["properties"].items()
    ]
    return [f"## {title}\n", f"{part['description']}\n", *_rows(("key", "type", "default", "meaning"), rows), ""]


def _rows(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


def _title(name: str) -> str:
    words = re.findall(r"[A-Z][a-z]+", name.removesuffix("Spec"))
    return " ".join(words).capitalize()


def _type(field: dict[str, Any]) -> str:
    """A field's type and limits in words."""
    match field:
        case {"$ref": reference} if reference.rpartition("/")[2] not in INTERNAL:
            title = _title(reference.rpartition("/")[2])
            return f"[{title.lower()}](#{title.lower().replace(' ', '-')})"
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " or ".join(_type(kind) for kind in kinds if _type(kind))
        case {"enum": values}:
            return ", ".join(f"`{value}`" for value in values)
        case {"const": value}:
            return f"`{value}`"
        case {"type": "array", "items": {"anyOf": _}}:
            return "list of such"
        case {"type": "array", "items": items}:
            return f"list of {_type(items)}"
        case {"type": "object", "additionalProperties": values}:
            return f"mapping of names to {_type(values)}"
        case {"type": "string", "pattern": pattern}:
            return f"text that matches `{pattern}`"
        case {"type": "null"} | {"$ref": _}:
            return ""
    return TYPES[field["type"]] + _limits(field)


def _limits(field: dict[str, Any]) -> str:
    limits = [f"{word} {field[key]:,}".removesuffix(".0") for key, word in LIMITS.items() if key in field]
    return f" {' '.join(limits)}".rstrip()


def _default(field: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    match field.get("default"):
        case None:
            return "none"
        case dict() if "$ref" in field:
            return "each key's own"
        case bool() | list() | dict() as value:
            return f"`{json.dumps(value)}`"
        case float() as value:
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


def _setting_type(field: dict[str, Any]) -> str:
    """A variable is text: a list has commas, a mapping is JSON."""
    match field:
        case {"type": "array"}:
            return "names, with commas between them"
        case {"type": "object"}:
            return f"JSON: {_type(field)}"
        case {"format": "path"}:
            return "path"
    return _type(field)


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text)
