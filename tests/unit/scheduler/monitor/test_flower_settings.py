"""Flower's configuration."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from celery import states
from celery.events.state import Task
from flower.options import default_options
from flower.views.tasks import visible_task_columns

from distill_queue.shared.errors import InvalidSpec, StageFailed

SETTINGS = Path(__file__).parents[4] / "scheduler" / "monitor" / "flower_settings.py"


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the file sets, where nothing is said of passwords."""
    monkeypatch.delenv("FLOWER_UNAUTHENTICATED_API", raising=False)
    return runpy.run_path(str(SETTINGS))


def shown(settings: dict[str, Any], **fields: Any) -> tuple[str, str, str]:
    task = settings["format_task"](Task("id", **fields))
    return task.args, task.kwargs, task.result


def test_every_setting_is_an_option_of_flowers_and_every_column_has_its_heading(settings: dict[str, Any]) -> None:
    names = {name for name, value in settings.items() if not name.startswith("_") and type(value) in (int, bool, str)}

    assert names >= {"persistent", "max_tasks", "natural_time", "read_only", "tasks_columns"}
    assert all(name in default_options for name in names)
    columns = visible_task_columns(settings["tasks_columns"])
    assert [name for name, _ in columns] == settings["tasks_columns"].split(",")
    assert dict(columns)["result"] == "Progress, result or error"


def test_a_task_reads_in_words(settings: dict[str, Any]) -> None:
    kwargs = "digits-1 · train teacher · mlp 32 · mnist_5k · 5 epochs · key 12345678"
    stage = "train teacher · mlp 32 · mnist_5k · 5 epochs · key 12345678"

    running = shown(settings, kwargs=kwargs, state=states.STARTED, result="epoch 3/5")
    done = shown(settings, kwargs=kwargs, state=states.SUCCESS, result="'computed in 1.0 s · it\\'s 95 %'")

    assert running == ("digits-1", stage, "epoch 3/5")
    assert done == ("digits-1", stage, "computed in 1.0 s · it's 95 %")


@pytest.mark.parametrize(
    ("exception", "words"),
    [
        (repr(StageFailed("train teacher: the loss isn't finite")), "the loss isn't finite"),
        (repr(InvalidSpec('no "such" thing')), 'no "such" thing'),
        ("StageFailed('cut off in the mid", "cut off in the mid"),
        (None, ""),
    ],
)
def test_a_failure_shows_its_error_and_not_its_last_progress(
    settings: dict[str, Any], exception: str | None, words: str
) -> None:
    task = {"kwargs": "digits-1 · train teacher · mlp 32", "state": states.FAILURE, "result": "epoch 3/5"}

    assert shown(settings, **task, exception=exception)[2] == words


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ("1.3 h left · epoch 6/80 · loss 0.1", "cancelled; it was at epoch 6/80 · loss 0.1"),
        ("reading", "cancelled; it was at reading"),
        (None, "cancelled"),
    ],
)
def test_a_cancelled_task_says_where_it_was(settings: dict[str, Any], last: str | None, words: str) -> None:
    assert shown(settings, kwargs="digits-1 · train teacher", state=states.REVOKED, result=last)[2] == words


def test_a_task_without_words_is_shown_without_them(settings: dict[str, Any]) -> None:
    assert shown(settings, state=states.RECEIVED) == ("", "", "")


def test_buttons_that_flower_would_refuse_are_not_shown(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")

    assert settings["read_only"] is True
    assert runpy.run_path(str(SETTINGS))["read_only"] is False
