"""A hook of mkdocs: says which files the site is built of, and finds what a page would load from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
#: The files that pages are or link to, where they lie: links between them work here as they do beside the code.
PATTERNS = (
    *("*.md", "LICENSE", "docs/**/*.md", "docs/**/*.png", "docs/monitoring/*", "examples/**/*.*"),
    "scheduler/monitor/flower_settings.py",
)
#: Folders that pages link to: each is a page that lists its files.
FOLDERS = ("examples/recipes", "examples/custom/own")
#: The modules that programs of users import, each a page of its own with this title.
MODULES = {
    "scheduler.client": "The client",
    "shared.spec": "The spec",
    "shared.soft_labels": "Soft labels",
    "shared.ledger.results": "Results",
    "shared.settings": "Settings",
    "shared.errors": "Errors",
    "worker.losses": "Losses",
}
#: Options of mkdocstrings for a single one of these pages.
OPTIONS = {"worker.losses": "    options: {show_submodules: true}\n"}
#: A link to one of the folders.
TO_FOLDER = re.compile(rf"\]\((?P<folder>{'|'.join(FOLDERS)}|own)/?\)")
#: What a browser loads by itself, unlike the links that a reader follows.
LOADED = re.compile(r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+href=["']?(?:https?:)?//[^>]+>""")


def on_files(_files: Files, config: MkDocsConfig) -> Files:
    """Return the pages where they lie, a page for each module and one for each folder that is linked to."""
    paths = sorted(set(chain.from_iterable(ROOT.glob(pattern) for pattern in PATTERNS)))
    names = [path.relative_to(ROOT).as_posix() for path in paths if path.is_file() and "__pycache__" not in path.parts]
    written = [File(name, str(ROOT), config.site_dir, config.use_directory_urls) for name in names]
    made = {
        f"api/{name}.md": f"# {title}\n\n::: distill_queue.{name}\n{OPTIONS.get(name, '')}"
        for name, title in MODULES.items()
    }
    made |= {f"{folder}/index.md": _listing(folder, names) for folder in FOLDERS}
    return Files([*written, *(File.generated(config, name, content=text) for name, text in made.items())])


def on_page_markdown(markdown: str, **_page: Any) -> str:
    """Return the page with its links to folders as links to their lists."""
    return TO_FOLDER.sub(r"](\g<folder>/index.md)", markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Find what a page would load from another host.

    Raises:
        PluginError: a page does; the message names it and the address.

    """
    for path in sorted(Path(config.site_dir).rglob("*.html")):
        if found := LOADED.search(path.read_text(encoding="utf-8")):
            raise PluginError(f"{path.name} loads something from elsewhere: {found[0]}")


def _listing(folder: str, names: Sequence[str]) -> str:
    """Return a page that lists a folder's files."""
    lines = [
        f"* [{name.removeprefix(folder + '/')}]({name.removeprefix(folder + '/')})"
        for name in names
        if name.startswith(f"{folder}/")
    ]
    return "\n".join([f"# {folder}", "", *lines, ""])
