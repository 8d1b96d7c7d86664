"""Wheels: what a bare machine with torch lacks, downloaded into `.gpu-wheels/` for its Python and processor.

What is needed is read from the project's metadata and resolved with `constraints.txt`, or without it where that has no
wheel for this Python.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".gpu-wheels"
#: That a machine with a card has, or that is too large to be carried, and mlxtend, which needs them.
LEFT_OUT = {
    "matplotlib", "mlxtend", "numpy", "pandas", "safetensors", "scikit-learn", "scipy", "torch", "torchvision",
}  # fmt: skip
EXTRAS = ("worker", "monitor")
#: Of the tools for developers, those that run the tests.
FOR_TESTS = {"hypothesis", "psutil", "pytest", "pytest-timeout", "pytest-xdist"}
PLATFORMS = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014", "manylinux1")
TARGET = (
    "--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp",
    *(f"--platform={name}_x86_64" for name in PLATFORMS),
)  # fmt: skip
MOST_BYTES = 60_000_000


def main() -> None:
    """Download them, and print what they come to.

    Raises:
        SystemExit: pip failed, or they are too large.

    """
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.whl"):
        old.unlink()  # Of two versions, pip would install neither.
    pinned = resolved(requirements(), constraints=True) or resolved(requirements(), constraints=False)
    if not pinned:
        raise SystemExit("error: pip finds no wheels for Python 3.12: see above")
    _pip("download", "--quiet", "--no-deps", *TARGET, "--dest", str(FOLDER), *pinned)
    sizes = [path.stat().st_size for path in FOLDER.glob("*.whl")]
    print(f"{FOLDER.name}: {len(sizes)} wheels, {sum(sizes) / 1e6:.1f} MB of {MOST_BYTES / 1e6:.0f}")
    if sum(sizes) > MOST_BYTES:
        raise SystemExit("error: that is too much to be carried")


def requirements() -> list[str]:
    """What the project asks for, less what is left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *(each for extra in EXTRAS for each in extras[extra])]
    asked += [each for each in extras["dev"] if normalised_name(each) in FOR_TESTS]
    return [each for each in asked if normalised_name(each) not in LEFT_OUT]


def resolved(asked: Sequence[str], *, constraints: bool) -> list[str]:
    """Name and version of all that requirements come to; nothing where pip finds no versions that fit."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        limits = ["--constraint", str(ROOT / "constraints.txt")] if constraints else []
        options = ["--dry-run", "--ignore-installed", "--quiet", "--target", folder, "--report", str(report)]
        try:
            _pip("install", *options, *TARGET, *limits, *asked)
        except subprocess.CalledProcessError:
            return []
        found = [each["metadata"] for each in json.loads(report.read_text("utf-8"))["install"]]
    return sorted(
        f"{each['name']}=={each['version']}" for each in found if normalised_name(each["name"]) not in LEFT_OUT
    )


def normalised_name(requirement: str) -> str:
    """The normalised name of a package that is asked for."""
    match = re.match(r"[\w.-]+", requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""


def _pip(command: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", command, *arguments], check=True)


if __name__ == "__main__":
    main()
