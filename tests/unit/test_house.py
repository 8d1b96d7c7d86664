"""What a repository says of itself agrees with itself."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from docs.generate import RECORD_HEAD

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def test_the_version_is_the_projects_wherever_it_is_said() -> None:
    released = re.findall(r"^## (\d\S+) \(\d{4}-\d\d-\d\d\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert {version("distill-queue"), released[0], cited["version"]} == {PROJECT["version"]}


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    assert re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0] == "Unreleased"


def test_the_licence_is_one_wherever_it_is_named() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())

    assert PROJECT["license"] == cited["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0" in (ROOT / "LICENSE").read_text()


def test_the_records_of_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(1, len(RECORDS) + 1))


def test_a_decision_that_no_longer_holds_names_the_later_one_that_does() -> None:
    changed = 0
    for path in RECORDS:
        head = RECORD_HEAD.match(path.read_text())
        assert head, path.name
        if link := re.search(r"\[(\d{4})\]\((\d{4})-\S+\.md\)", head["status"]):
            assert int(path.name[:4]) < int(link[1]) == int(link[2])
            changed += 1

    assert changed


@pytest.mark.parametrize("hook", yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"])
def test_a_hook_before_commits_is_a_target_of_the_makefile(hook: dict[str, str]) -> None:
    make, target = hook["entry"].split()

    assert make == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
