"""Golden keys: later versions of the code still find the artifacts in a store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from tests.golden import KEYS, ROOT, copy_examples, examples

RECORDED: dict[str, dict[str, str]] = json.loads(KEYS.read_text())


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples as they are kept, without data that a script makes."""
    copy_examples(folder := tmp_path_factory.mktemp("copied"))
    return folder


def test_every_example_has_its_keys_recorded() -> None:
    assert {str(path.relative_to(ROOT)) for path in examples()} == RECORDED.keys()


@pytest.mark.parametrize("example", RECORDED)
def test_the_stages_of_an_example_have_the_keys_that_they_had(example: str, copied: Path, tmp_path: Path) -> None:
    spec = load_spec(copied / example, Settings(cache=tmp_path))

    assert sorted(stage.key for stage in Plan.of(spec).stages) == sorted(RECORDED[example].values())


def test_data_that_a_script_has_made_are_no_part_of_an_example(tmp_path: Path) -> None:
    for name in ("examples/photos.yaml", "examples/new.csv", "examples/photos/train/cat/1.jpg"):
        (file := tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "checkout" / ".gitignore").write_text("examples/photos/\n")
    subprocess.run(["git", "init", "--quiet", tmp_path / "checkout"], check=True)

    copy_examples(tmp_path, tmp_path / "checkout")

    copied = [path.name for path in (tmp_path / "examples").rglob("*")]
    assert sorted(copied) == ["new.csv", "photos.yaml"]
