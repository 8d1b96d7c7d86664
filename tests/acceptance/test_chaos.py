"""Some faults of `make chaos`, with a fixed seed: it has three workers restarted again and again, which takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import chaos


@pytest.mark.timeout(600)
def test_pipelines_under_faults_end_with_the_artifacts_of_an_undisturbed_run(tmp_path: Path) -> None:
    outcome = chaos(tmp_path, seconds=12.0, seed=1, pipelines=2, epochs=60)

    assert sum(outcome.faults.values()) > 2
    assert outcome.states == {"done": 2}
    assert outcome.compared > 0
    assert outcome.different == []
    assert outcome.double_holders == []
    assert outcome.leftovers == []
