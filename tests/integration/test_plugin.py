"""A package of the user's own that adds a loss, a model, a data source and a format by short names: `tests/plugin`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PLUGIN = Path(__file__).parents[1] / "plugin"
TRAINING = {"epochs": 1, "batch_size": 64}
SPEC: dict[str, Any] = {
    "name": "plugged",
    "dataset": {"name": "rings", "options": {"radii": [1.0, 2.0]}, "validation": 0.2},
    "teacher": {"model": {"name": "pyramid", "options": {"widths": [16, 8]}}, "training": TRAINING},
    "students": [
        {
            "name": "small",
            "model": {"name": "pyramid", "options": {"widths": {"grid": [[4], [4, 2]]}}},
            "distillation": {"loss": "cosine", "options": {"divergence": 0.1}},
            "training": TRAINING,
            "export": {"formats": ["program"]},
        }
    ],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed, as pip does it."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(folder / "site"), str(folder / "source")], check=True)
    return folder / "site"


def distill(site: Path, tmp_path: Path, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the package on the path."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DISTILL_")}
    return subprocess.run(
        [Path(sys.executable).with_name("distill"), *map(str, arguments)],
        env=ours | {"PYTHONPATH": str(site), "DISTILL_STORE": str(tmp_path / "store"), **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_pipeline_runs_with_the_names_that_an_installed_package_gave(site: Path, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(SPEC))

    done = distill(site, tmp_path, "run", "spec.yaml", DISTILL_PLUGINS="distill_plugin")

    assert done.returncode == 0, done.stderr + done.stdout
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "store" / "artifacts").rglob("manifest.json")]
    recipes = [manifest["stage"]["recipe"] for manifest in manifests if manifest["kind"] == "distill"]
    (exported,) = [manifest for manifest in manifests if manifest["kind"] == "export"]
    assert {recipe["distillation"]["loss"] for recipe in recipes} == {"distill_plugin.losses:cosine"}
    assert [recipe["model"]["name"] for recipe in recipes] == ["distill_plugin.models:pyramid"] * 2
    assert list(exported["files"]) == ["model.pt2"]
    assert exported["record"]["format"] == "distill_plugin.formats:Program"
    assert exported["record"]["agreement"] == 1.0


def test_the_lists_of_names_have_those_of_an_installed_package(site: Path, tmp_path: Path) -> None:
    added = {
        "losses": ("cosine", "distill_plugin.losses:cosine, of distill-plugin 1.2"),
        "models": ("pyramid", "distill_plugin.models:pyramid, of distill-plugin 1.2"),
        "datasets": ("rings", "distill_plugin.data:rings, of distill-plugin 1.2"),
        "formats": ("program", "distill_plugin.formats:Program, of distill-plugin 1.2"),
    }

    listed = {what: json.loads(distill(site, tmp_path, what, "--json").stdout) for what in added}

    for what, (name, about) in added.items():
        assert listed[what][name] == about
