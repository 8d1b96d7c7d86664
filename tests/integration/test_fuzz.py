"""The entrances withstand inputs that are nearly right, and the guard of the fuzzer sees each kind of fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS

#: Of each target: most of the seconds are of loading what they need. `make fuzz` gives many more.
INPUTS = 30
ROOT = Path(__file__).parents[2]

WATCHED = """
import sys, time
from pathlib import Path
from distill_queue.shared.errors import InvalidSpec
from tests.fuzz import guard

guard.MOST_SECONDS, scratch = 0.2, Path(sys.argv[1])
watch = guard.Guard(scratch)

def refuse(): raise InvalidSpec("no spec")
def fail(): raise KeyError("a bug")
def work():
    ends = time.process_time() + 0.3
    while time.process_time() < ends: pass
def hoard(): bytearray(300_000_000)
def write(): (scratch / "mine").write_text("x")
def escape(): (scratch / ".." / "yours").write_text("x")
def follow():
    (scratch / "link").unlink(missing_ok=True)
    (scratch / "link").symlink_to(scratch.parent)
    (scratch / "link" / "yours").mkdir()
def start(): __import__("subprocess").run(["true"])

for feed in (refuse, write, fail, work, hoard, escape, follow, start):
    finding = watch.run(feed)
    print(finding.kind.partition(" ")[0] if finding else "nothing")
"""


def test_no_entrance_lets_out_a_foreign_error_or_takes_long_or_much_or_writes_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", f"--inputs={INPUTS}", "--seed=0", "--jobs=1"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(TARGETS)
    assert all(f"{INPUTS} inputs" in line and " 0 findings" in line for line in lines)


def test_the_guard_sees_each_kind_of_fault(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "scratch")]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    faults = ["nothing", "nothing", "KeyError", "time", "memory", "Escaped", "Escaped", "Escaped"]
    assert done.stdout.split() == faults, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"scratch"}
