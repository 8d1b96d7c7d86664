"""Templates: the files of `templates/`, filled in."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def filled(name: str, /, **facts: Any) -> str:
    """A template with facts put in; what is missing is an error."""
    return _templates().get_template(f"{name}.jinja").render(**facts)


@cache
def _templates() -> Environment:
    found = Environment(  # noqa: S701 (programs and Markdown, no HTML)
        loader=PackageLoader("distill_queue.scheduler.exports"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    found.filters["literal"] = repr
    return found
