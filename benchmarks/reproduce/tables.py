"""Tables: the pages take theirs from the committed figures, between `<!-- results: NAME -->` and `<!-- /results -->`.

A name is a section's, or a section's and a word: `mnist`, `mnist gain`. A block stands on lines of its own; a single
figure stands in its sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.reproduce.figures import ROOT, SectionFigures
from benchmarks.reproduce.section import Section

#: The pages with tables.
PAGES = ("README.md", "docs/results.md", "docs/tutorial.md")
_MARKED = re.compile(r"<!-- results: ([\w -]+?) -->(.*?)<!-- /results -->", re.DOTALL)


def rewritten(text: str, sections: dict[str, Section], figures: dict[str, SectionFigures]) -> str:
    """A page with the tables of these figures.

    Raises:
        KeyError: a marker names no table.

    """

    def made(match: re.Match[str]) -> str:
        name = match[1]
        section = sections[name.split()[0]]
        content = section.tables[name](figures[section.name])
        block = f"\n\n{content}\n\n" if "\n" in content else content
        return f"<!-- results: {name} -->{block}<!-- /results -->"

    return _MARKED.sub(made, text)


def rewrite(sections: dict[str, Section]) -> list[Path]:
    """Rewrite the pages from the committed figures; return those that changed."""
    figures = {name: SectionFigures.load(name) for name in sections}
    changed = []
    for path in (ROOT / page for page in PAGES):
        before = path.read_text("utf-8")
        after = rewritten(before, sections, figures)
        if after != before:
            path.write_text(after, "utf-8")
            changed.append(path)
    return changed
