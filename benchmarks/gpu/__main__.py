"""`python -m benchmarks.gpu`: run all sections in turn, each in a process of its own, and write the report."""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu import (
    agreement,
    ceilings,
    child,
    digits,
    encodings,
    labelling,
    launches,
    machine,
    main_job,
    out_of_memory,
    recovery,
    repeatability,
    stacks,
    steps,
    streaming,
    tests,
    two_workers,
)
from benchmarks.gpu.report import Report, Result
from benchmarks.gpu.section import Section, Setting
from distill_queue.worker.machine import libraries

#: In the order in which they are run: what the others need first, then what matters most.
MODULES = (
    machine, ceilings, tests, main_job, stacks, steps, out_of_memory, agreement, recovery, labelling, encodings,
    streaming, repeatability, two_workers, launches,
)  # fmt: skip
SECTIONS: dict[str, Section] = {module.SECTION.name: module.SECTION for module in MODULES}
#: Seconds that all sections may take, on a card; a dry run ends with its last section, however busy the machine is.
SECONDS = 530.0
#: Times its limit after which a section of a dry run is taken to hang.
DRY_LIMITS = 5.0
#: For a dry run, in which small models gain nothing by a second thread.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "DISTILL_THREADS": "1"}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--dry", action="store_true", help="on the CPU, with small sizes: to see that it works")
    parser.add_argument("--out", type=Path, default=digits.ROOT / "gpu-report", help="where the report is written")
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, help="some sections, beside the machine's and the ceilings"
    )
    parser.add_argument("--skip", nargs="+", choices=SECTIONS, default=[], help="all sections but some")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that all sections may take")
    options = parser.parse_args()
    libraries.set_up()
    if options.dry:
        os.environ.update(ONE_THREAD)
    wanted = {"machine", "ceilings", *(options.only or SECTIONS)} - set(options.skip)
    report = Report(options.out, f"{datetime.now(UTC):%Y-%m-%d}")
    deadline = math.inf if options.dry else time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory(prefix="gpu-") as name:
        folder = Path(name)
        mnist_is = digits.provide(folder / "digits", dry=options.dry)
        setting = Setting("cpu" if options.dry else "cuda", options.dry, folder, folder / "digits", mnist_is)
        for section in SECTIONS.values():
            if section.name in wanted:
                _add(report, section, setting, deadline)
    failures = [result for result in report.results if result.failure]
    print(f"{report.path}: {len(report.results)} sections, {len(failures)} failed")
    if options.dry and failures:
        raise SystemExit(1)


def _add(report: Report, section: Section, setting: Setting, deadline: float) -> None:
    """Run a section, and write the report with what came of it."""
    result = Result(section.name, section.title)
    report.results.append(result)
    (folder := setting.folder / section.name).mkdir()
    found = {each.name: each.rows for each in report.results}
    given = Setting(
        setting.device_type,
        setting.dry,
        folder,
        setting.mnist,
        setting.mnist_is,
        ceilings.peaks(found.get("ceilings", [])),
    )
    started = time.monotonic()
    limit = section.limit_seconds
    seconds = DRY_LIMITS * limit if setting.dry else min(limit, deadline - started)
    if seconds <= 0:
        result.failure = "left out: the time of all sections is over"
    else:
        for message in child.run(section, given, seconds):
            if message.kind == "failed":
                result.failure = str(message.value)
            elif isinstance(message.value, dict):
                result.rows.append(message.value)
            elif message.kind == "part":
                result.notes.append(message.value)
    result.seconds = time.monotonic() - started
    if section.name == "machine":
        report.card = next((str(row["is"]) for row in result.rows if row["what"] == machine.CARD), report.card)
    report.write()
    ended = f"failed: {result.failure}" if result.failure else "done"
    print(f"{section.name}: {len(result.rows)} rows in {result.seconds:.1f} s, {ended}", flush=True)


if __name__ == "__main__":
    main()
