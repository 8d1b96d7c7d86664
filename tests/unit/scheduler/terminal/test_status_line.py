"""What a command that takes long says on the standard error."""

from __future__ import annotations

import pytest

from distill_queue.scheduler.terminal import status_line
from distill_queue.scheduler.terminal.status_line import StatusLine


@pytest.fixture
def after_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a line be shown at once."""
    monkeypatch.setattr(status_line, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(status_line, "CHANGE_SECONDS", 0.0)


def show(capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of two reports."""
    with StatusLine("looking at [photos]") as line:
        line.show("1 of 3 files")
        line.show("2 of 3 files")
    printed = capsys.readouterr()
    assert not printed.out
    return printed.err


def test_nothing_is_said_in_the_first_second(capsys: pytest.CaptureFixture[str]) -> None:
    assert not show(capsys)


@pytest.mark.usefixtures("after_a_second")
def test_what_is_no_terminal_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(capsys) == "looking at [photos]: 1 of 3 files\n"


@pytest.mark.usefixtures("after_a_second")
def test_the_line_in_a_terminal_goes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")

    printed = show(capsys)

    assert "looking at [photos]: 2 of 3 files" in printed
    assert printed.rindex("\x1b[2K") > printed.rindex("files"), "the line is erased"
    assert "\x1b[?25h" in printed, "the cursor is there again"
