"""The seam of the report's sections."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import get_type_hints

import pytest

from distill_queue.shared.report import sections
from distill_queue.shared.report.contents import CONTENTS
from distill_queue.shared.report.facts import ReportFacts
from distill_queue.shared.report.section import Section


def test_each_file_in_the_folder_is_a_section_of_the_report() -> None:
    files = {module.name for module in iter_modules(sections.__path__)}

    assert files == set(CONTENTS)
    assert len(files) == len(CONTENTS)


@pytest.mark.parametrize("name", CONTENTS)
def test_a_section_is_made_of_facts_alone(name: str) -> None:
    section = import_module(f"{sections.__name__}.{name}").section

    hints = get_type_hints(section)

    assert hints.pop("return") in (Section, Section | None)
    assert list(hints.values()) == [ReportFacts]
