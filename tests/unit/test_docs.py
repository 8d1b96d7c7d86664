"""What the documents print works."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from distill_queue.scheduler.tune.tuned_spec import TunedSpec
from distill_queue.shared.ledger.results import COLUMNS
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec
from docs import generate
from tests.unit.given_files import write_given_files

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "examples/custom/README.md",
    "examples/outside/README.md",
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))),
]
SPECS = [
    *((path.name, path.read_text()) for path in sorted((ROOT / "examples").rglob("*.yaml"))),
    *(
        (page, block)
        for page in ("README.md", "docs/spec.md", *(page for page in PAGES if page.startswith("docs/how-to/")))
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    ),
]

#: What the operating system, the user's code or a shell says, and we pass on.
OF_OTHERS = (
    "No space left on device",
    "Read-only file system",
    "package.module:callable: TypeError: … (mine/data.py:12)",
    "Permission denied",
    "distill doctor",
    "distill workers",
    "distill status ID",
)


@pytest.mark.parametrize(("page", "text"), SPECS)
def test_every_spec_that_is_shown_is_a_spec(tmp_path: Path, page: str, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    write_given_files(tmp_path)

    # `between:` makes a range, which only 'distill tune' takes.
    spec = TunedSpec.of(SpecFile.read(path), None).spec if "between:" in text else PipelineSpec.load(path)

    assert Plan.of(spec).report.title == "report", page


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text()

    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_module_that_the_pages_name_is_there() -> None:
    for page in (ROOT / "docs").rglob("*.md"):
        for name in re.findall(r"`((?:shared|worker|scheduler)/\w+\.py)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_generated_pages_are_of_this_code() -> None:
    for name, text in generate.pages().items():
        if name == "cli.md" and f"typer=={version('typer')}\n" not in (ROOT / "constraints.txt").read_text():
            continue  # Each version of typer words it in its own way.
        assert (ROOT / "docs" / name).read_text() == text, f"docs/{name} is out of date: run 'make docs'"


def test_every_key_is_described_to_editors() -> None:
    schema = PipelineSpec.model_json_schema()

    for part in (schema, *schema["$defs"].values()):
        for key, field in part["properties"].items():
            assert field.get("description"), f"{part['title']}.{key}"


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_names_is_one(page: str) -> None:
    known = set(re.findall(r"^#+ `distill ([\w -]+)`$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    text = re.sub(r"<!--.*?-->", "", (ROOT / page).read_text(), flags=re.DOTALL)

    for name in re.findall(r"(?:^|`|/)distill ([a-z]+)\b", text, re.MULTILINE):
        assert name in known, name


def test_the_columns_that_are_described_are_those_of_a_row() -> None:
    table = (ROOT / "docs" / "formats.md").read_text().partition("| column |")[2].partition("\n\n")[0]

    described = [name for line in table.splitlines() for name in re.findall(r"`(\w+)`", line.split("|")[1:2][0])]

    assert described == list(COLUMNS)


def test_every_message_that_the_page_of_failures_quotes_is_in_the_code() -> None:
    folders = (ROOT / name for name in ("shared", "scheduler", "worker"))
    code = "".join(path.read_text() for folder in folders for path in sorted(folder.rglob("*.py")))
    code = re.sub(r'"\s+f?"', "", code)
    for row in (ROOT / "docs" / "how-to" / "recover.md").read_text().splitlines():
        if not row.startswith("| ") or row.startswith("| what"):
            continue
        quoted = re.findall(r"`([^`]+)`", row.split(" | ")[1])
        said = (piece.strip(" :;,()") for quote in quoted for piece in quote.split("…") if quote not in OF_OTHERS)
        for piece in said:
            assert piece in code, row
