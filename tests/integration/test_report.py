"""The page that a pipeline's last stage writes, in a browser."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from celery.contrib.testing.worker import start_worker
from playwright.sync_api import Browser, Page

from distill_queue.scheduler.cli.report import page_of
from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.shared.broker.connection import connect
from distill_queue.shared.ledger.status import PipelineStatus
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.app import create
from distill_queue.worker.coordination.pages import Pages

MakeSpec = Callable[..., PipelineSpec]
WaitUntil = Callable[[Callable[[], Any], str], Any]
STUDENT = {
    "name": "small",
    "model": {"name": "mlp", "hidden": [8]},
    "distillation": {"temperature": {"grid": [1, 2]}, "alpha": {"grid": [0.2, 0.8]}},
    "training": {"epochs": 2, "learning_rate": 1e-2},
    "seeds": 2,
}
SECTIONS = [
    "Scores and costs",
    "Accuracy against cost",
    "Sweep",
    "Learning curves",
    "Where they are wrong",
    "Calibration",
    "Where teacher and student disagree",
    "Where the time went",
    "Lineage",
    "How to make it again",
]
#: The smallest ratio of the luminances of a text and of what it stands on (WCAG 2.2, 1.4.3), computed in the page.
LOWEST_CONTRAST = """
() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const over = (colours) => {
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const backgrounds = (element) => {
    const found = [];
    for (let at = element; at; at = at.parentElement) found.unshift(getComputedStyle(at).backgroundColor);
    return found;
  };
  const contrasts = [];
  const texts = "h1, h2, h3, p, li, a, th, td, dt, dd, caption, figcaption, summary, pre";
  for (const element of document.querySelectorAll(texts)) {
    if (!element.innerText) continue;
    const behind = over(backgrounds(element)), text = over([getComputedStyle(element).color]);
    const [light, dark] = [luminance(behind), luminance(text)].sort((a, b) => b - a);
    contrasts.push((light + 0.05) / (dark + 0.05));
  }
  return Math.min(...contrasts);
}
"""
#: Of all numbers in tables.
MOST_LINES_OF_A_NUMBER = """
() => Math.max(...[...document.querySelectorAll("td.number")].map(cell => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  return range.getClientRects().length;
}))
"""


@pytest.fixture
def page_path(settings: Settings, make_spec: MakeSpec, wait_until: WaitUntil) -> Path:
    """The page of a pipeline with a grid and two seeds, as its last stage wrote it."""
    client = PipelineClient(settings)
    with start_worker(create(settings), pool="solo", perform_ping_check=False, shutdown_timeout=30):
        pipeline = client.submit(make_spec(dataset={"name": "digits", "validation": 0.2}, students=[STUDENT])).id
        path = FolderStore(settings.folder).report(pipeline)
        wait_until(path.is_file, "the page is written")
    gc.collect()  # Celery's results unsubscribe when they are collected: now, not after the server is gone.
    return path


def finish(client: PipelineClient, pipeline: str) -> PipelineStatus:
    *_, status = client.watch(pipeline)
    return status


def test_a_page_is_readable_on_any_screen_and_asks_for_nothing(page_path: Path, browser: Browser) -> None:
    address = page_path.as_uri()
    asked: list[str] = []
    said: list[str] = []

    def look(width: int, scheme: Literal["light", "dark"]) -> Page:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        return page

    for width in (400, 1400):
        for scheme in ("light", "dark"):
            page = look(width, scheme)  # type: ignore[arg-type]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate(LOWEST_CONTRAST) >= 4.5, scheme
            headings = page.get_by_role("heading", level=2)
            assert headings.all_inner_texts() == SECTIONS
            assert all(heading.is_visible() for heading in headings.all())
            assert page.get_by_role("img").count() >= 10
            assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
            page.close()

    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert said == []


def test_a_sweep_says_how_many_samples_chose(page_path: Path) -> None:
    assert re.search(r"Accuracy on \d+ samples that are held out", page_path.read_text())


def test_tables_can_be_read_on_a_phone_and_on_paper(page_path: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 900})
    page.goto(page_path.as_uri())
    scores = page.get_by_role("region").first
    scores.evaluate("table => { table.scrollLeft = table.scrollWidth }")
    heads = scores.get_by_role("rowheader")
    assert heads.first.bounding_box()["x"] < 40  # type: ignore[index]  # It stays where it is.

    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without its margins.
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5
    assert page.evaluate(MOST_LINES_OF_A_NUMBER) == 1
    for text in ("distill small, seed 0 (temperature 1, alpha 0.2)", "grid: [1.0, 2.0]", "torch"):
        assert page.locator("details", has_text=text).get_by_text(text).first.is_visible()


def test_a_pipeline_of_which_all_is_found_gets_its_page_when_somebody_asks(
    settings: Settings, make_spec: MakeSpec
) -> None:
    client, store = PipelineClient(settings), FolderStore(settings.folder)

    with start_worker(create(settings), pool="solo", perform_ping_check=False, shutdown_timeout=30):
        # The worker does one task after the other: at the third one's end it has long ended the second one's last.
        computed, found, _ = (finish(client, client.submit(make_spec()).id) for _ in range(3))
    gc.collect()

    assert store.report(computed.id).is_file()
    assert not store.report(found.id).exists()
    assert page_of(found, store).is_file()


def test_a_page_that_cannot_be_written_is_a_warning_and_no_failure(
    settings: Settings,
    make_spec: MakeSpec,
    wait_until: WaitUntil,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.folder.mkdir()
    (settings.folder / "reports").touch()
    client, logger = PipelineClient(settings), logging.getLogger("distill_queue.worker.task.report_pages")
    # A worker that starts takes what its tasks log from the root's handlers, of which caplog's is one.
    monkeypatch.setattr(logger, "handlers", [caplog.handler])

    with (
        caplog.at_level(logging.WARNING, logger.name),
        start_worker(create(settings), pool="solo", perform_ping_check=False, shutdown_timeout=30),
    ):
        pipeline = client.submit(make_spec()).id
        *_, status = client.watch(pipeline)
        wait_until(lambda: f"{pipeline}: its report cannot be written" in caplog.text, "the warning")
    gc.collect()

    assert status.state == "done"
    assert client.results(pipeline).scores.students


def test_pages_are_written_once_nothing_waits_for_the_worker(
    settings: Settings, make_spec: MakeSpec, wait_until: WaitUntil
) -> None:
    client, store = PipelineClient(settings), FolderStore(settings.folder)
    training = [{"epochs": 1, "seed": seed} for seed in range(2)]
    teachers = [{"model": {"name": "mlp", "hidden": [8]}, "training": each} for each in training]
    ids = [client.submit(make_spec(teacher=teacher, evaluation={"control": False})).id for teacher in teachers]
    pages = [store.report(pipeline) for pipeline in ids]

    with start_worker(create(settings), pool="solo", perform_ping_check=False, shutdown_timeout=30):
        wait_until(lambda: all(page.is_file() for page in pages), "all pages are written")
    gc.collect()

    states = [state for pipeline in ids for state in client.status(pipeline).states.values()]
    last = max(state.record.ended for state in states if state.record)
    assert min(page.stat().st_mtime for page in pages) > last - 0.01, "files' times are a few milliseconds behind"
    assert Pages(connect(settings), 60).take() is None
