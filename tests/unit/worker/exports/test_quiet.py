"""What libraries say while a student is exported."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from distill_queue.worker.exports.quiet import quiet, quiet_native


def test_a_librarys_warnings_are_kept_off_and_its_handlers_removed(caplog: pytest.LogCaptureFixture) -> None:
    before = list(logging.root.handlers)

    with quiet():
        logging.getLogger("exporter").warning("for developers")
        warnings.warn("an experiment", UserWarning, stacklevel=1)
        logging.root.addHandler(logging.NullHandler())

    logging.getLogger("worker").warning("for users")
    assert caplog.messages == ["for users"]
    assert logging.root.handlers == before


def test_what_native_code_writes_to_stderr_is_kept_off_until_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_native():
        os.write(2, b"noise\n")
        sys.stderr.write("noise\n")
    sys.stderr.write("heard\n")
    sys.stderr.flush()

    assert capfd.readouterr().err == "heard\n"


def test_stderr_is_heard_again_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="broken"), quiet_native():
        raise ValueError("broken")
    os.write(2, b"heard\n")

    assert capfd.readouterr().err == "heard\n"
