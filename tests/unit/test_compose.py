"""The compose file keeps its promises: nothing public, no default secret, nothing lost."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from distill_queue.worker.process.shutdown import LONGEST_SECONDS

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


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
    # Not as FLOWER_BASIC_AUTH, which Flower splits at commas.
    login = {name for name in services["flower"]["environment"] if name.startswith("FLOWER_")}
    assert login == {"FLOWER_USER", "FLOWER_PASSWORD"}


def test_flower_has_its_configuration_and_keeps_its_history(services: Any) -> None:
    flower = services["flower"]
    image = (ROOT / "Dockerfile").read_text().partition("FROM dependencies AS monitor")[2].partition("FROM")[0]

    assert flower["command"][:2] == ["distill", "flower"]
    assert "--db=/flower/history" in flower["command"]
    assert flower["volumes"] == ["flower:/flower"]
    assert "chown 1000:1000 /flower" in image


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


def test_a_worker_has_more_time_to_end_than_it_takes(services: Any) -> None:
    service = services["worker-cpu"]

    assert float(service["stop_grace_period"].rstrip("s")) > LONGEST_SECONDS
    assert service["init"] is True


def test_every_service_that_runs_on_says_how_it_is(services: Any) -> None:
    lasting = {name: service for name, service in services.items() if service.get("profiles") != ["cli"]}

    assert all("healthcheck" in service for service in lasting.values())
    assert all(service["restart"] == "unless-stopped" for service in lasting.values())
    assert services["worker-cpu"]["healthcheck"]["test"] == ["CMD", "python", "-m", "distill_queue.worker.health"]


class Everything(BaseHTTPRequestHandler):
    """Answers each question with 200, as Flower does and as a proxy may."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def server() -> Iterator[int]:
    """The port of a server that answers everything."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Everything) as serving:
        threading.Thread(target=serving.serve_forever, args=[0.01], daemon=True).start()
        yield serving.server_port
        serving.shutdown()


def test_a_proxy_in_the_environment_is_not_asked_how_flower_is(services: Any) -> None:
    with server() as port:  # Afterwards no process listens there.
        pass
    _, python, *arguments = services["flower"]["healthcheck"]["test"]
    assert python == "python"

    def check(flower: int, proxy: int) -> int:
        command = [word.replace("5555", str(flower)) for word in arguments]
        environment = os.environ | dict.fromkeys(("http_proxy", "HTTP_PROXY"), f"http://127.0.0.1:{proxy}")
        return subprocess.run([sys.executable, *command], env=environment, stderr=subprocess.DEVNULL).returncode

    with server() as alive:
        assert check(flower=alive, proxy=port) == 0
        assert check(flower=port, proxy=alive) != 0


def test_every_base_image_can_be_another(services: Any) -> None:
    built = [service["build"] for service in services.values() if "build" in service]

    assert services["redis"]["image"].startswith("${REDIS_IMAGE:-")
    assert {build["target"] for build in built} == {"client", "monitor", "worker"}
    assert all(build["args"]["PYTHON_IMAGE"].startswith("${PYTHON_IMAGE:-") for build in built)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)[0] == "${PYTHON_IMAGE}"


def test_every_variable_of_the_file_stands_in_its_example(services: Any) -> None:
    used = set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert used == named


def test_sets_have_one_order_in_all_workers() -> None:
    (image,) = (
        text for text in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE) if "dependencies AS worker" in text
    )

    assert "\nENV PYTHONHASHSEED=0\n" in image


def test_no_image_runs_as_root() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)

    for name in ("client", "monitor", "worker"):
        (stage,) = (text for text in stages if text.partition("\n")[0].endswith(f" AS {name}"))
        assert "\nUSER 1000\n" in stage
