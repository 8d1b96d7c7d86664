"""The way in, by a name that nobody else has: sees that our packages are ours, then runs the `distill` command.

`shared`, `scheduler` and `worker` are names that others take too: whichever stands first on Python's path is imported.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

PACKAGES = ("shared", "scheduler", "worker")
#: Stands in the docstring of each of them, and hardly in that of another.
DISTRIBUTION = "distill-queue"
REINSTALL = f"install {DISTRIBUTION} again, with pip's --force-reinstall"
#: They lie beside this file, installed or not.
HERE = Path(__file__).resolve().parent


def main() -> NoReturn:
    """Run the `distill` command."""
    require_own_packages()
    from scheduler.cli import main as distill

    distill()


def require_own_packages() -> None:
    """Exit with code 2 and one line on standard error if one of our packages is not ours."""
    for name in PACKAGES:
        if problem := _clash(name):
            sys.stderr.write(f"error: {problem}\n")
            sys.exit(2)


def _clash(name: str) -> str:
    """What is imported in a package's place and what to do about it; empty where it is our own."""
    ours, found = HERE / name / "__init__.py", _found(name)
    if found in (None, ours.parent):
        return f"{ours} is missing: {REINSTALL}"
    if found != ours:
        return (
            f"{found} shadows the package '{name}' of {DISTRIBUTION} ({ours.parent}): rename it, put it into a package "
            "of its own, or take its folder off PYTHONPATH"
        )
    if DISTRIBUTION.encode() not in ours.read_bytes():
        return (
            f"{ours} is no longer {DISTRIBUTION}'s: another distribution with a package '{name}' was installed over "
            f"it: uninstall that one, then {REINSTALL}"
        )
    return ""


def _found(name: str) -> Path | None:
    """What an import of a name would take: a file, or the folder of a package without `__init__.py`."""
    spec = find_spec(name)
    if spec is None:
        return None
    folders = spec.submodule_search_locations or ()
    return Path(spec.origin or next(iter(folders))).resolve()
