"""What all tests share: a real server, settings that point at it, and small specs."""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import redis
import yaml
from celery import signals
from celery.utils.dispatch import Signal

from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.text import encodable
from distill_queue.worker.machine import libraries
from tests import properties

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Small models gain nothing by a second thread, and where tests run side by side the threads only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
libraries.set_up()

# Without deadlines: on a machine that has much else to do, any example may take a second.
# `--hypothesis-profile` is read after this.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
hypothesis.settings.register_profile(properties.QUICK, max_examples=properties.QUICK_EXAMPLES, deadline=None)

#: Seconds after which a test stops waiting, long enough for a machine that has much else to do.
DEADLINE_SECONDS = 120.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make the text in a test's report encodable, so that it can be sent to another process."""
    report = yield
    report.sections = [(name, encodable(text)) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Put the level of all logs back, which an in-process Celery worker sets."""
    logger = logging.getLogger()
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(autouse=True)
def _receivers_of_signals() -> Iterator[None]:
    """Forget what a test's applications of Celery listen to: all would hear of the worker that a later test starts."""
    all_signals = [signal for signal in vars(signals).values() if isinstance(signal, Signal)]
    before = [list(signal.receivers) for signal in all_signals]
    yield
    for signal, receivers in zip(all_signals, before, strict=True):
        with signal.lock:
            signal.receivers[:] = receivers
            signal.sender_receivers_cache.clear()


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Valkey server for the whole session."""
    settings = Settings(store=tmp_path_factory.mktemp("server"))
    with LocalStack(settings, workers=0) as stack:
        yield stack.settings.broker_url
        gc.collect()  # Celery's results speak to the server when they are collected: not after it is gone.


@pytest.fixture
def settings(broker_url: str, tmp_path: Path) -> Settings:
    """An emptied server and an empty store."""
    settings = Settings(broker_url=broker_url, store=tmp_path / "store", threads=1)
    with redis.Redis(**settings.broker.redis_options) as client:
        client.flushall()
    return settings


def small_spec(**changes: Any) -> dict[str, Any]:
    """A pipeline on scikit-learn's digits that takes a second."""
    return {
        "name": "tiny",
        "dataset": {"name": "digits"},
        "teacher": {"model": {"name": "mlp", "hidden": [32]}, "training": {"epochs": 2}},
        "students": [{"name": "small", "model": {"name": "mlp", "hidden": [8]}, "training": {"epochs": 2}}],
    } | changes


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., PipelineSpec]:
    """Make a small pipeline's spec, with changes at its top level."""
    return lambda **changes: PipelineSpec.model_validate(small_spec(**changes))


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[..., Path]:
    """Write a small pipeline's spec into a file."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump(small_spec(**changes)))
        return path

    return write


@pytest.fixture
def student_weights(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Write weights of the small student into a file, and return the part of a spec that names it."""
    import torch
    from safetensors.torch import save_file

    def write(classes: int = 10, prefix: str = "", **changes: torch.Tensor | None) -> dict[str, str]:
        tensors = {
            "layers.0.weight": torch.full((8, 64), 0.01),
            "layers.0.bias": torch.full((8,), 0.5),
            "head.weight": torch.full((classes, 8), 0.25),
            "head.bias": torch.full((classes,), 0.75),
        } | changes
        named = {f"{prefix}{name}": tensor for name, tensor in tensors.items() if tensor is not None}
        save_file(named, tmp_path / "w.safetensors")
        return {"file": str(tmp_path / "w.safetensors")}

    return write


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Poll until a condition holds, and return what it gave."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE_SECONDS:.0f} s: {what}")


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[[Callable[[], Any], str], Any]:
    """Give tests `wait_until`."""
    return wait_until


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium; install it with `apt-get install chromium`, or name another with DISTILL_TEST_BROWSER."""
    binary = os.environ.get("DISTILL_TEST_BROWSER") or which("chromium") or which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    from playwright.sync_api import sync_playwright  # A machine for the tests of a GPU has no browser.

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()
