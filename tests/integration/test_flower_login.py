"""Flower lets in whom the environment names, by the whole of the password."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from scheduler.child import Child, celery_command
from scheduler.local import FLOWER_SETTINGS, LocalStack
from shared.errors import InvalidSettings
from shared.settings import Settings


def status(port: int, login: str) -> int:
    """With what Flower answers someone; 0 where it does not listen yet."""
    authorization = f"Basic {b64encode(login.encode()).decode()}"
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}/workers", headers={"Authorization": authorization})) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code
    except URLError:
        return 0


def test_a_password_with_a_comma_lets_in_who_knows_all_of_it(
    settings: Settings, tmp_path: Path, wait_until: Callable[[Callable[[], Any], str], Any]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    login = {"FLOWER_USER": "me", "FLOWER_PASSWORD": "half,you:rest"}
    command = celery_command("flower", f"--conf={FLOWER_SETTINGS}", f"--port={port}", f"--db={tmp_path / 'history'}")
    flower = Child("flower", command, settings.environment | login, tmp_path / "log")

    flower.start()
    try:
        wait_until(lambda: status(port, "me:half,you:rest") == 200, "Flower lets in who knows the password")
        answers = [status(port, login) for login in ("me:half", "you:rest", "me:", ":", "", "me:half,you:rest,")]
    finally:
        flower.ask_to_end()
        flower.end(deadline=float("inf"))

    assert answers == [401] * 6


def test_flower_does_not_start_with_a_login_that_would_let_in_others(settings: Settings) -> None:
    environment = os.environ | settings.environment | {"FLOWER_BASIC_AUTH": "me:a,b"}
    command = [sys.executable, "-m", "worker", "flower", f"--conf={FLOWER_SETTINGS}"]

    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.stderr.startswith("error: FLOWER_BASIC_AUTH, login 2 of 2: not user:password; ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 2


def test_up_says_so_before_it_starts_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWER_BASIC_AUTH", "me:")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    stack = LocalStack(Settings(store=str(tmp_path / "store")), flower_port=port)

    with pytest.raises(InvalidSettings, match="FLOWER_BASIC_AUTH: the password is empty"), stack:
        pass

    assert stack.children == []
