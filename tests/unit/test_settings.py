"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import InvalidSettings
from shared.settings import Settings


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DISTILL_BROKER_URL", "amqp://x", "DISTILL_BROKER_URL: unknown scheme 'amqp'"),
        ("DISTILL_BROKER_URL", "redis://", "DISTILL_BROKER_URL: no host"),
        ("DISTILL_BROKER_URL", "redis://x:port", "DISTILL_BROKER_URL: not a URL"),
        ("DISTILL_THREADS", "many", "DISTILL_THREADS: "),
        ("DISTILL_MAX_ATTEMPTS", "0", "DISTILL_MAX_ATTEMPTS: "),
    ],
)
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidSettings, match=message):
        Settings.load()


def test_the_address_in_messages_has_no_password() -> None:
    settings = Settings(broker_url="rediss://user:secret@host:6380/1")

    assert settings.broker_address == "rediss://host:6380/1"


def test_plugins_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_PLUGINS", "one, two")

    assert Settings.load().plugins == ("one", "two")


def test_another_process_gets_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(plugins=("a", "b"), time_limits={"distill": 60.0}, retry_seconds=1.5, store=Path("x"))

    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)

    assert Settings.load() == settings
