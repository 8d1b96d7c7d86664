"""The compose file keeps its promises: nothing public, no default secret, nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.fixture
def services() -> Any:
    """The services by name."""
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_only_flower_is_published_and_on_loopback(services: Any) -> None:
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert list(published) == ["flower"]
    assert all(port.startswith("127.0.0.1:") for port in published["flower"])


def test_secrets_have_no_default(services: Any) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    example = (ROOT / ".env.example").read_text()

    for secret in ("REDIS_PASSWORD", "FLOWER_USER", "FLOWER_PASSWORD"):
        assert text.count(f"${{{secret}") == text.count(f"${{{secret}:?")
        assert f"\n{secret}=\n" in example
    assert "FLOWER_BASIC_AUTH" in services["flower"]["environment"]


def test_flower_has_its_configuration_and_keeps_its_history(services: Any) -> None:
    flower = services["flower"]
    image = (ROOT / "Dockerfile").read_text().partition("FROM base AS monitor")[2].partition("FROM")[0]

    assert "--conf=scheduler/flower_settings.py" in flower["command"]
    assert "--db=/flower/history" in flower["command"]
    assert flower["volumes"] == ["flower:/flower"]
    assert "chown distill /flower" in image


def test_workers_serve_metrics_in_their_own_network_only(services: Any) -> None:
    for name in ("worker-cpu", "worker-gpu"):
        assert services[name]["environment"]["DISTILL_METRICS_PORT"] == 9464
        assert "ports" not in services[name]


def test_redis_keeps_what_it_has_and_evicts_nothing(services: Any) -> None:
    command = " ".join(services["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert "--requirepass" in command
    assert "healthcheck" in services["redis"]


def test_gpu_workers_and_the_scheduler_start_on_demand(services: Any) -> None:
    gpu = services["worker-gpu"]

    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert "gpu,any" in gpu["command"]
    assert "cpu,any" in services["worker-cpu"]["command"]
    assert services["scheduler"]["profiles"] == ["cli"]


def test_no_image_runs_as_root() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("\nFROM ")

    for name in ("client", "monitor", "worker"):
        (stage,) = (text for text in stages if text.startswith(f"base AS {name}\n"))
        assert "\nUSER distill\n" in stage
