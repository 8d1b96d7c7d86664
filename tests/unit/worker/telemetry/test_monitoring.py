"""What docs/monitoring names is what workers tell."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_queue.worker.telemetry.exporter import Exporter

FOLDER = Path(__file__).parents[4] / "docs" / "monitoring"


@pytest.fixture
def told() -> set[str]:
    """The names of a worker's metrics."""
    families = Exporter("worker-1@here").registry.collect()
    suffixes = {"counter": "_total", "info": "_info"}
    return {family.name + suffixes.get(family.type, "") for family in families}


@pytest.fixture
def panels() -> Any:
    """The dashboard's panels."""
    return json.loads((FOLDER / "dashboard.json").read_text())["panels"]


def named(text: str) -> set[str]:
    """The metrics that a text names."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bdistill_\w+", text)}


def test_the_page_and_the_dashboard_have_every_metric_and_no_other(told: set[str]) -> None:
    assert "distill_stages_total" in told
    assert named((FOLDER / "README.md").read_text()) == told
    assert named((FOLDER / "dashboard.json").read_text()) == told


def test_alerts_are_of_metrics_that_there_are(told: set[str]) -> None:
    (group,) = yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]

    expressions = " ".join(rule["expr"] for rule in group["rules"])

    assert named(expressions) <= told
    assert len(named(expressions)) >= 5
    assert all(rule["annotations"]["summary"] for rule in group["rules"])


def test_alerts_and_the_dashboard_speak_of_jobs_that_are_scraped() -> None:
    scraped = {job["job_name"] for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]}

    for name in ("alerts.yml", "dashboard.json"):
        jobs = set(re.findall(r'job=\\?"([\w-]+)', (FOLDER / name).read_text()))
        assert jobs, name
        assert jobs <= scraped, name


def test_panels_have_places_of_their_own_and_one_data_source(panels: Any) -> None:
    cells = [
        (place["x"] + x, place["y"] + y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["w"])
        for y in range(place["h"])
    ]

    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["datasource"]["uid"] for panel in panels} == {"${datasource}"}
