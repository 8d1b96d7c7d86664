"""The report: a dated table a section, as Markdown and as JSON, written anew after each section."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.gpu.section import Row


@dataclass(slots=True)
class Result:
    """What came of a section."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    #: Why it has no more rows; empty where it is whole.
    failure: str = ""
    seconds: float = 0.0


@dataclass(slots=True)
class Report:
    """All results of a run."""

    folder: Path
    date: str
    card: str = "unknown"
    results: list[Result] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Its Markdown; the JSON lies beside it."""
        card = re.sub(r"[^A-Za-z0-9]+", "-", self.card).strip("-").lower()
        return self.folder / f"{self.date}-{card}.md"

    def write(self) -> None:
        """Write both files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        sections = [_markdown(result) for result in self.results]
        title = f"# {self.card}, {self.date}"
        self.path.write_text("\n\n".join([title, *sections]) + "\n", "utf-8")
        data = {"date": self.date, "card": self.card, "sections": [asdict(result) for result in self.results]}
        self.path.with_suffix(".json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _markdown(result: Result) -> str:
    parts = [f"## {result.title}"]
    if result.rows:
        columns = list(dict.fromkeys(column for row in result.rows for column in row))
        right = [all(not isinstance(row.get(column, 0), str) for row in result.rows) for column in columns]
        lines = [columns, ["---:" if each else "---" for each in right]]
        lines += [[_cell(row.get(column, "")) for column in columns] for row in result.rows]
        parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    parts += result.notes
    if result.failure:
        parts.append(f"failed: {result.failure}")
    return "\n\n".join([*parts, f"({result.seconds:.0f} s)"])


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value.replace("|", "\\|").replace("\n", " ")
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
