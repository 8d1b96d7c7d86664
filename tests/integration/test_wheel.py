"""The wheel: it holds all that the commands import, under one name, even beside other packages of such names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from tests import fresh_environment

ROOT = Path(__file__).parents[2]
PACKAGES = ("scheduler", "shared", "worker")
FILES = ("pyproject.toml", "README.md", "LICENSE")

MODEL = """
from torch import nn

def tiny(input_shape, classes):
    return nn.Linear(*input_shape, classes)
"""
DATA = """
import numpy as np

def rings():
    rng = np.random.default_rng(0)
    radius = rng.permutation(np.repeat([1.0, 2.0], 100))
    angle = rng.uniform(0, 2 * np.pi, 200)
    inputs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).astype(np.float32)
    labels = (radius > 1.5).astype(np.int64)
    return {"train": (inputs[:150], labels[:150]), "test": (inputs[150:], labels[150:])}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "distill_queue", source / "distill_queue", symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--quiet", "."]
    subprocess.run([*command, "--wheel-dir", str(folder)], cwd=source, check=True, capture_output=True)
    (made,) = folder.glob("*.whl")
    return made


def test_a_wheel_holds_each_file_of_the_packages_under_one_name(wheel: Path) -> None:
    files = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*")}
    with ZipFile(wheel) as held:
        names = {name for name in held.namelist() if ".dist-info/" not in name}

    assert names == {
        f"distill_queue/{name}" for name in files if "__pycache__" not in name and (ROOT / name).is_file()
    } | {"distill_queue/__init__.py"}


def test_neither_a_distribution_nor_a_project_with_our_folders_names_is_in_the_way(wheel: Path, tmp_path: Path) -> None:
    site = fresh_environment.install(tmp_path / "fresh", wheel)
    (project := tmp_path / "project").mkdir()
    for folder, content in ((site / "scheduler", "raise SystemExit('theirs')"), (project / "worker", MODEL)):
        folder.mkdir()
        (folder / "__init__.py").write_text(content)
    (project / "shared.py").write_text(DATA)
    training = {"epochs": 2, "batch_size": 16}
    model = {"name": "worker:tiny"}
    spec = {
        "name": "rings",
        "dataset": {"name": "shared:rings"},
        "teacher": {"model": model, "training": training},
        "students": [{"name": "small", "model": model, "training": training}],
    }
    (project / "spec.yaml").write_text(yaml.safe_dump(spec))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}

    done = subprocess.run(
        [fresh_environment.command(tmp_path / "fresh", "distill"), "run", "spec.yaml"],
        cwd=project,
        env=environment
        | {"PYTHONPATH": str(project), "DISTILL_PLUGINS": "worker,shared", "DISTILL_STORE": str(tmp_path / "store")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr + done.stdout
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "store" / "artifacts").rglob("manifest.json")]
    assert {"train_teacher", "distill"} <= {manifest["kind"] for manifest in manifests}
