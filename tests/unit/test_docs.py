"""What the documents print works."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from shared.plan import Plan
from shared.spec import PipelineSpec

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    "examples/custom/README.md",
    "examples/outside/README.md",
    *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
SPECS = [
    *((path.name, path.read_text()) for path in sorted((ROOT / "examples").rglob("*.yaml"))),
    *(
        (page, block)
        for page in ("README.md", "docs/spec.md")
        for block in re.findall(r"```yaml\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    ),
]


@pytest.mark.parametrize(("page", "text"), SPECS)
def test_every_spec_that_is_shown_is_a_spec(tmp_path: Path, page: str, text: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    np.savez(tmp_path / "labels.npz", logits=np.eye(10, dtype=np.float32) * 9)

    plan = Plan.of(PipelineSpec.load(path))

    assert plan.report.title == "report", page


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_is_there(page: str) -> None:
    text = (ROOT / page).read_text()

    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_module_that_the_pages_name_is_there() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:shared|worker|scheduler)/\w+\.py)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
