"""A fresh virtual environment in which a wheel is installed, and nothing of the checkout."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from pathlib import Path


def install(folder: Path, wheel: Path) -> Path:
    """Make an environment with a wheel, beside the packages of this one; return its folder of packages."""
    make(folder, "--no-deps", "--no-index", str(wheel))
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    # Its folder alone: what this environment's own .pth files name, as the checkout, is not looked at.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return site


def make(folder: Path, *requirements: str) -> None:
    """Make an environment, and have pip install into it, as its arguments say."""
    venv.create(folder, with_pip=False)
    python = str(command(folder, "python"))
    options: Sequence[str] = ("--python", python, "install", "--quiet", *requirements)
    subprocess.run([sys.executable, "-m", "pip", *options], check=True)


def command(folder: Path, name: str) -> Path:
    """A command of an environment."""
    return folder / "bin" / name
