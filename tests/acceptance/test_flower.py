"""Flower's own pages, in a browser, over a stack of real processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Error, Locator, Page, expect

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.stack.child import Child
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.acceptance.conftest import free_port

WaitUntil = Callable[[Callable[[], Any], str], Any]


@pytest.fixture
def stack(start_stack: Callable[..., LocalStack], monkeypatch: pytest.MonkeyPatch) -> LocalStack:
    """A worker, and Flower behind a password."""
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "me:secret")
    return start_stack(workers=1, flower_port=free_port())


@pytest.fixture
def flower(stack: LocalStack) -> Child:
    """Flower's process."""
    return stack.children[-1]


@pytest.fixture
def page(browser: Browser, stack: LocalStack, wait_until: WaitUntil) -> Iterator[Page]:
    """A tab at the list of tasks."""
    address = f"http://127.0.0.1:{stack.flower_port}"
    credentials: Any = {"username": "me", "password": "secret"}
    with browser.new_context(base_url=address, http_credentials=credentials) as context:
        page = context.new_page()
        open_tasks(page, wait_until)
        yield page


def open_tasks(page: Page, wait_until: WaitUntil) -> None:
    """Open the list of tasks, as soon as Flower serves it."""

    def opened() -> bool:
        try:
            return page.goto("/tasks") is not None
        except Error:
            return False

    wait_until(opened, "Flower serves its page")


def row(page: Page, *words: str) -> Locator:
    found = page.locator("#tasks-table tbody tr")
    for word in words:
        found = found.filter(has_text=word)
    return found


def text_of(page: Page, *words: str) -> str:
    """The text of a task's row, once the list is loaded anew; empty if it has none."""
    page.reload()
    page.locator("#tasks-table tbody tr").first.wait_for()
    found = row(page, *words)
    return found.inner_text() if found.count() else ""


def end(child: Child) -> None:
    child.ask_to_end()
    child.end(deadline=float("inf"))


def test_a_pipeline_is_watched_found_and_terminated_in_the_browser(
    stack: LocalStack,
    flower: Child,
    page: Page,
    long_spec: PipelineSpec,
    make_spec: Callable[..., PipelineSpec],
    wait_until: WaitUntil,
) -> None:
    client = PipelineClient(stack.settings)
    broken = client.submit(make_spec(name="broken", dataset={"name": "misbehaving:nothing"})).id
    long = client.submit(long_spec.model_copy(update={"name": "long"})).id

    def progress() -> str:
        found = re.search(r"epoch \d+/80 · step \d+/\d+", text_of(page, long, "train teacher"))
        return found[0] if found else ""

    # Live progress, in words; a failed stage's error, in words.
    first = wait_until(progress, "the teacher's progress is shown")
    assert wait_until(lambda: (now := progress()) != first and now, "the progress changes")
    teacher = text_of(page, long, "train teacher")
    assert "train teacher · mlp 32 · digits · 80 epochs" in teacher
    assert "STARTED" in teacher
    assert "cpu (" in teacher
    assert "module 'misbehaving' has no attribute 'nothing'" in text_of(page, broken, "FAILURE")

    # The search box finds a pipeline's tasks by its name.
    page.get_by_role("searchbox").fill("long")
    expect(row(page, broken)).to_have_count(0)
    assert row(page, long).count() >= 2

    # Terminate cancels.
    row(page, "train teacher").locator("a[href*='/task/']").click()
    page.get_by_role("button", name="Terminate").click()
    expect(page.get_by_role("status")).to_contain_text("Revoked")
    wait_until(lambda: client.status(long).state == "cancelled", "the pipeline says so")
    next_one = client.submit(make_spec()).id
    page.goto("/tasks")
    wait_until(lambda: "REVOKED" in text_of(page, long, "train teacher"), "Flower says so")

    # A pipeline that is cancelled on the command line does not run for ever there.
    other = client.submit(long_spec.model_copy(update={"name": "long-too"})).id  # The search box keeps its word.
    wait_until(lambda: "STARTED" in text_of(page, other, "train teacher"), "it runs")
    client.cancel(other)
    wait_until(lambda: "REVOKED" in text_of(page, other, "train teacher"), "Flower says that it was cancelled")

    # The history survives a restart; one that is damaged is set aside.
    end(flower)
    flower.start()
    open_tasks(page, wait_until)
    assert "REVOKED" in text_of(page, long, "train teacher")
    end(flower)
    for path in (stack.settings.folder / "flower").iterdir():
        path.write_bytes(b"rubbish")
    flower.start()
    open_tasks(page, wait_until)
    assert not text_of(page, long)
    assert flower.log.read_text().count("moving it aside and starting fresh") == 1
    wait_until(lambda: client.status(next_one).state == "done", "the worker goes on with the next pipeline")
