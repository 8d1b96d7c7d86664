"""The wheel: it holds all that the commands import."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[2]
PACKAGES = ("scheduler", "shared", "worker")
FILES = ("pyproject.toml", "README.md", "distill_queue_main.py")


def test_a_wheel_holds_the_module_that_the_command_starts_and_each_file_of_the_packages(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "."]

    subprocess.run([*command, "--wheel-dir", str(tmp_path)], cwd=source, check=True, capture_output=True)

    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as held:
        names = {name for name in held.namelist() if ".dist-info/" not in name}
        (entry_points,) = (name for name in held.namelist() if name.endswith("entry_points.txt"))
        assert "distill = distill_queue_main:main" in held.read(entry_points).decode()
    files = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*")}
    assert names == {name for name in files if "__pycache__" not in name and (ROOT / name).is_file()} | {
        "distill_queue_main.py"
    }
