"""Tests: those that are marked `gpu`, run on the device."""

from __future__ import annotations

import os
import re
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


def measure(setting: Setting) -> Iterator[Part]:
    """Run them in a process of their own."""
    report = setting.folder / "tests.xml"
    plugins = [option for name in PLUGINS for option in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", *plugins, "-W", "default", f"--junitxml={report}"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    if setting.dry:
        environment |= {VARIABLE: setting.device_type}
    done = subprocess.run(
        [*command, "tests/gpu"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if not report.is_file():
        raise RuntimeError(f"pytest wrote no report: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    for case in ET.parse(report).iter("testcase"):  # Of our own pytest.
        outcome = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        row: Row = {
            "test": re.sub(r"\W+", " ", case.get("name", "")).removeprefix("test ").replace("_", " "),
            "outcome": "passed"
            if outcome is None
            else {"failure": "failed", "error": "failed"}.get(outcome.tag, "skipped"),
            "s": float(case.get("time", 0)),
        }
        if outcome is not None:
            row["why"] = (outcome.get("message") or "").splitlines()[0][:200] if outcome.get("message") else ""
        yield row
    yield done.stdout.strip().splitlines()[-1].strip("= ")


SECTION = Section("tests", "Tests marked gpu", 120.0, measure)
