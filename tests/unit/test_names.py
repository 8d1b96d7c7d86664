"""Packages of others that have the names of ours: one line says which, and what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DISTILL = Path(sys.executable).with_name("distill")
CELERY = Path(sys.executable).with_name("celery")
PACKAGES = ("shared", "scheduler", "worker")
WAY_OUT = "rename it, put it into a package of its own, or take its folder off PYTHONPATH"


def run(*command: object, path: Path, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh process, with a folder on its PYTHONPATH and a working folder."""
    environment = os.environ | {"PYTHONPATH": str(path)}
    words = [str(word) for word in command]
    return subprocess.run(
        words,
        env=environment,
        cwd=folder or path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def installed(folder: Path) -> Path:
    """A copy of all that a wheel holds, as it lies in a folder of installed packages."""
    folder.mkdir()
    shutil.copy(ROOT / "distill_queue_main.py", folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("form", ["{}/__init__.py", "{}.py", "{}/settings.py"])
def test_a_package_of_the_users_own_that_has_the_name_of_ours_is_named(tmp_path: Path, package: str, form: str) -> None:
    file = tmp_path / form.format(package)
    file.parent.mkdir(exist_ok=True)
    file.touch()

    done = run(DISTILL, "--version", path=tmp_path)

    shadow = file.parent if file.name == "settings.py" else file
    ours = ROOT / package
    assert done.stderr == f"error: {shadow} shadows the package '{package}' of distill-queue ({ours}): {WAY_OUT}\n"
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize(
    "command",
    [
        (sys.executable, "-m", "worker", "report"),
        (sys.executable, "-m", "worker.offline"),
        (sys.executable, "-m", "worker.health"),
        (CELERY, "-A", "worker.app", "report"),
        (CELERY, "-A", "worker.app", "flower", f"--conf={ROOT / 'scheduler' / 'flower_settings.py'}"),
    ],
    ids=lambda command: " ".join(map(str, command[1:3])),
)
@pytest.mark.parametrize("package", ["shared", "scheduler"])
def test_each_way_to_start_a_worker_names_it_too(tmp_path: Path, command: tuple[str, ...], package: str) -> None:
    (tmp_path / f"{package}.py").touch()

    done = run(*command, path=tmp_path)

    assert done.stderr.startswith(f"error: {tmp_path / package}.py shadows the package '{package}' of distill-queue (")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_a_package_in_the_working_folder_that_is_not_on_the_path_is_left_alone(tmp_path: Path) -> None:
    (folder := tmp_path / "mine").mkdir()
    (folder / "shared.py").touch()

    done = run(DISTILL, "--version", path=tmp_path / "none", folder=folder)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            '"""A scheduler of somebody else\'s."""\n',
            "{} is no longer distill-queue's: another distribution with a package 'scheduler' was installed over it: "
            "uninstall that one, then install distill-queue again, with pip's --force-reinstall",
        ),
        (None, "{} is missing: install distill-queue again, with pip's --force-reinstall"),
    ],
)
def test_a_package_that_was_installed_over_ours_is_named(tmp_path: Path, theirs: str | None, message: str) -> None:
    site = installed(tmp_path / "site")
    file = site / "scheduler" / "__init__.py"
    file.write_text(theirs) if theirs else file.unlink()

    done = run(sys.executable, "-P", "-m", "worker", "report", path=site)

    assert done.stderr == f"error: {message.format(file)}\n"
    assert done.returncode == 2


def test_what_is_installed_is_started_by_the_name_that_nobody_else_has(tmp_path: Path) -> None:
    site = installed(tmp_path / "site")

    done = run(sys.executable, "-P", "-c", "import distill_queue_main as m; m.main()", path=site)

    assert "Usage:" in done.stdout
    assert "from distill_queue_main import main" in DISTILL.read_text()
