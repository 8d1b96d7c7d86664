"""The pages of reference, made from the code: `make docs` writes them, a test compares them with the committed ones."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from distill_queue.shared.catalog import DATASETS, OWN
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.distillation import LOSSES
from distill_queue.shared.spec.export import FORMATS
from distill_queue.shared.spec.model import MODELS
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.worker.machine.libraries import ENVIRONMENT

FOLDER = Path(__file__).parent
NOTE = "<!-- Written by `make docs`: change the code that it is made from. -->"
#: Parts that a student's grid becomes when a spec is read, and what a client looks up: no spec contains them.
INTERNAL = {"StudentGrid", "GridPoint", "EarlierRun", "EarlierModel"}
#: JSON Schema's words, and ours.
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false"}
LIMITS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}

SPEC_HEAD = f"""{NOTE}

# Every key of a spec

This page lists each key that a spec may have, with its type and default, and the names of [data sets](#data-sets),
[models](#models) and [losses](#losses). [spec.md](spec.md) explains what they mean; `distill schema` prints the keys as
JSON Schema, for editors. Unknown keys are refused, and so are options that would have no effect. In a student, any
value but its name, its teacher and its seeds may be a grid, as `{{grid: [1, 2, 4]}}`.
"""
SETTINGS_HEAD = f"""{NOTE}

# Settings

Settings are environment variables. A process reads them once, when it starts. `distill doctor` shows the values that
are in force. A value that cannot be used ends the command at once, with an error that names the variable. An empty
variable counts as not set.
"""
OTHER_VARIABLES = """
## Others

| variable | who reads it | meaning |
|---|---|---|
| `FLOWER_BASIC_AUTH` | Flower | `user:password`, several with commas; without any login, Flower asks for none |
| `FLOWER_USER`, `FLOWER_PASSWORD` | Flower | one more login; this password may contain commas |
| `REDIS_PASSWORD`, `FLOWER_USER`, `FLOWER_PASSWORD` | Docker Compose, from `.env` | required |
| `FLOWER_PORT` | Docker Compose, from `.env` | Flower's port on 127.0.0.1; 5555 |
| `PYTHONPATH` | Python | where Python finds the packages in `DISTILL_PLUGINS`, if they are not installed |
| `PYTHON` | make | the Python that makes `.venv`; the oldest of 3.11 to 3.13 that is there |
| `DISTILL_TEST_BROWSER` | the tests | the Chromium that opens pages in tests |
"""

DECISIONS_HEAD = f"""{NOTE}

# Decisions

Each record explains one decision that took thought: what was needed, what was chosen, what it costs, and what was tried
and dropped. A decision that changes gets a new record, and the old record's status names it; the old text stays.

To add a record, write a file `NNNN-title.md` with the next number:

```markdown
# The decision, as a sentence

* Date: 2026-11-26
* Status: accepted

Five lines: what was needed, what was chosen, and what it costs. Dropped: the alternatives, each with the reason.
```

A new record has the status `accepted`. Later the status may become `amended by` or `superseded by`, with a link to the
newer record. `make docs` writes this list.
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
    """The page of commands: the `--help` text of each, as typer's own generator writes it."""
    command = [sys.executable, "-m", "typer", "distill_queue.scheduler.cli.main", "utils", "docs", "--name", "distill"]
    done = subprocess.run(command, cwd=FOLDER.parent, capture_output=True, text=True, check=True)  # noqa: S603 (ours)
    page = html.unescape(done.stdout)
    abouts = dict(re.findall(r"^#+ `distill (.+)`\n\n(.+)$", page, re.MULTILINE))
    lines, command_name = [], ""
    for line in page.splitlines():
        if heading := re.match(r"#+ `distill ?(.*)`", line):
            command_name = heading[1]
        listed = re.match(r"\* `([\w-]+)`: .*\.\.\.$", line)
        # typer's generator cuts each description in a list at 45 characters.
        lines.append(f"* `{listed[1]}`: {abouts[f'{command_name} {listed[1]}'.strip()]}" if listed else line)
    return f"{NOTE}\n\n" + "\n".join(lines).strip() + "\n"


def spec_page() -> str:
    """The page of a spec's keys, a table for each part, and of the names that a spec may give."""
    schema = PipelineSpec.model_json_schema()
    lines = [SPEC_HEAD, *_table("Pipeline", schema)]
    for name in _in_order(schema):
        lines += _table(_title(name), schema["$defs"][name])
    datasets = {
        name: f"{facts.about}; {' x '.join(map(str, facts.shape))}, {facts.classes} classes"
        for name, facts in DATASETS.items()
    }
    losses = {name: loss.about for name, loss in LOSSES.items()}
    lines += _names("Data sets", "datasets", datasets) + _names("Models", "models", MODELS)
    formats = {name: found.about for name, found in FORMATS.items()}
    lines += _names("Losses", "losses", losses) + _names("Formats", "formats", formats)
    return "\n".join(lines)


def settings_page() -> str:
    """The page of settings: every environment variable."""
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
    """The page that lists the records in docs/decisions, each with its date and status.

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
    """The names of a spec's parts, each after the part that refers to it first."""
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


def _names(title: str, command: str, names: Mapping[str, str]) -> list[str]:
    """A section that lists the names that a spec may give, each with its description."""
    rows = [(f"`{name}`", about) for name, about in {**names, **OWN}.items()]
    about = f"`distill {command}` lists these too, with the short names that installed packages add.\n"
    return [f"## {title}\n", about, *_rows(("name", "meaning"), rows), ""]


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
        case {"type": "array", "items": {"anyOf": [{"type": "string"}, *_]}}:
            return "list of such"
        case {"type": "array", "items": {"anyOf": kinds}}:
            return "list of " + " or ".join(_type(kind) for kind in kinds)
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
    """A setting's type in words; a variable is text, so a list has commas, and a mapping is JSON."""
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
