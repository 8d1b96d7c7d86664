"""Golden keys: later versions of the code still find the artifacts in a store."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from tests.golden import KEYS, ROOT, examples

RECORDED: dict[str, dict[str, str]] = json.loads(KEYS.read_text())


def test_every_example_has_its_keys_recorded() -> None:
    assert {str(path.relative_to(ROOT)) for path in examples()} == RECORDED.keys()


@pytest.mark.parametrize("example", RECORDED)
def test_the_stages_of_an_example_have_the_keys_that_they_had(example: str, tmp_path: Path) -> None:
    spec = load_spec(ROOT / example, Settings(cache=tmp_path))

    assert sorted(stage.key for stage in Plan.of(spec).stages) == sorted(RECORDED[example].values())
