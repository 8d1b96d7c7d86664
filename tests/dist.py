"""The packages that are published: built, checked, and run where nothing of the checkout is (`make dist`).

The source distribution is built of the checkout, and the wheel of the source distribution; a wheel of the checkout
itself must hold the same files. The wheel is installed into a fresh environment, beside this environment's packages
unless `--whole` has pip get them all, and runs a small pipeline there.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

from tests import fresh_environment

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
SPEC = """
name: dist
dataset: {name: digits}
teacher: {model: {name: mlp, hidden: [32]}, training: {epochs: 2}}
students: [{name: small, model: {name: mlp, hidden: [8]}, training: {epochs: 2}}]
"""


def main() -> None:
    """Build, check, install and run; the exit code is not 0 if any of them fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.dist", description=__doc__)
    parser.add_argument("--whole", action="store_true", help="have pip install all that the wheel needs: gigabytes")
    whole = parser.parse_args().whole

    shutil.rmtree(DIST, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # Else setuptools takes what an earlier version left there.
    _python("-m", "build", "--quiet", "--no-isolation", "--outdir", DIST, ROOT)
    (wheel,), (source,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    _python("-m", "twine", "check", "--strict", source, wheel)
    with tempfile.TemporaryDirectory() as folder:
        _python("-m", "build", "--quiet", "--no-isolation", "--wheel", "--outdir", folder, ROOT)
        (direct,) = Path(folder).glob("*.whl")
        if differ := sorted({name for name, _ in _files(direct) ^ _files(wheel)}):
            sys.exit(f"error: {wheel.name} of the source distribution is another than the checkout's: {differ}")
        _run(wheel, Path(folder), whole=whole)
    print(f"{source.name} and {wheel.name} are in dist/, and run")  # noqa: T201 (the command's answer)


def _files(wheel: Path) -> set[tuple[str, bytes]]:
    """Return the names and contents in a wheel, without RECORD, whose order is of no account."""
    with ZipFile(wheel) as held:
        return {(name, held.read(name)) for name in held.namelist() if not name.endswith("/RECORD")}


def _run(wheel: Path, folder: Path, *, whole: bool) -> None:
    """Install a wheel into a fresh environment, and run a pipeline there."""
    if whole:
        fresh_environment.make(folder / "fresh", "-c", str(ROOT / "constraints.txt"), f"{wheel}[worker]")
    else:
        fresh_environment.install(folder / "fresh", wheel)
    (folder / "spec.yaml").write_text(SPEC)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("DISTILL_", "PYTHON"))}
    distill = fresh_environment.command(folder / "fresh", "distill")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    said = subprocess.check_output([distill, "--version"], cwd=folder, env=variables, text=True)
    if said != f"distill {version}\n":
        sys.exit(f"error: {wheel.name} says that it is {said!r}, and pyproject.toml has {version}")
    subprocess.run([distill, "run", "spec.yaml"], cwd=folder, env=variables, check=True)


def _python(*arguments: object) -> None:
    subprocess.run([sys.executable, *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
