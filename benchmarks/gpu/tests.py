"""Tests: those that are marked `gpu`, run on the device."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from xml.etree import ElementTree as ET

from benchmarks.gpu.digits import ROOT
from benchmarks.gpu.section import Part, Row, Section, Setting

#: What the tests need; others that are installed on a machine could have words of their own about warnings.
PLUGINS = ("pytest_timeout", "xdist")
#: Names the device in place of a card, for a dry run.
VARIABLE = "DISTILL_TEST_DEVICE"
#: From which on four processes share the tests, and seconds after which they are told to end.
MANY_CORES, LONGEST_SECONDS = 8, 100.0


def measure(setting: Setting) -> Iterator[Part]:
    """Run them in a process of their own."""
    report = setting.folder / "tests.xml"
    plugins = [option for name in PLUGINS for option in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-q", "-m", "gpu", *plugins, "-W", "default"]
    command.append(f"--junitxml={report}")
    if (os.cpu_count() or 1) >= MANY_CORES:
        command += ["--numprocesses", "4", "--dist", "loadfile"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if setting.dry:
        environment |= {VARIABLE: setting.device_type}
    output = setting.folder / "output"
    with output.open("wb") as file:
        started = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT)
        try:
            started.wait(None if setting.dry else LONGEST_SECONDS)
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGINT)  # It reports what it has done by then.
            started.wait()
    lines = output.read_text("utf-8", "replace").strip().splitlines()
    if not report.is_file():
        raise RuntimeError(f"pytest wrote no report: {' '.join(lines[-3:])}")
    for case in ET.parse(report).iter("testcase"):  # Of our own pytest.
        outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        row: Row = {
            "test": re.sub(r"[\W_]+", " ", case.get("name", "").removeprefix("test_")).strip(),
            "outcome": "passed"
            if outcome is None
            else {"failure": "failed", "error": "failed"}.get(outcome.tag, "skipped"),
            "s": float(case.get("time", 0)),
        }
        if outcome is not None:
            row["why"] = (outcome.get("message") or "").splitlines()[0][:200] if outcome.get("message") else ""
        yield row
    yield lines[-1].strip("= ")


SECTION = Section("tests", "Tests marked gpu", 120.0, measure)
