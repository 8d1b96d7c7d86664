"""The tutorial, command by command, as its readers run it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import free_port

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
MARK = "--- block"
#: `distill up` in its second terminal: until it is ready, and until the tutorial is over.
SECOND_TERMINAL = """
touch up.txt
distill up --flower-port {port} > up.txt &
UP=$!
trap "kill $UP; wait $UP || true" EXIT
until grep -q Ctrl-C up.txt; do sleep 0.1; done
cat up.txt
"""
#: Ctrl-C in the second terminal.
CTRL_C = """
kill $UP; wait $UP || true
trap - EXIT
"""


def test_every_command_works_and_prints_what_the_page_shows(tmp_path: Path, environment: dict[str, str]) -> None:
    flower, broker = free_port(), free_port()
    page = PAGE.read_text().replace("5555", str(flower)).replace("6379", str(broker))
    blocks = re.findall(r"```sh\n(.*?)```(?:\n\n```text\n(.*?)```)?", page, re.DOTALL)
    script = tmp_path / "tutorial.sh"
    second_terminal = SECOND_TERMINAL.format(port=flower)
    commands = [
        text.replace("distill up\n", second_terminal).replace("rm -r .distill", f"{CTRL_C}rm -r .distill")
        for text, _ in blocks
    ]
    script.write_text("set -euo pipefail\n" + "".join(f"echo '{MARK}'\n{text}" for text in commands))
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{environment['PATH']}",
        "DISTILL_BROKER_URL": f"redis://127.0.0.1:{broker}/0",
        "DISTILL_STORE": ".distill",
        "DISTILL_THREADS": "1",
    }

    done = subprocess.run(["bash", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-3000:] + done.stderr
    printed = done.stdout.split(f"{MARK}\n")[1:]
    assert len(printed) == len(blocks) >= 10
    absent = [
        f"{line}  in:\n{output}"
        for (_, shown), output in zip(blocks, printed, strict=True)
        for line in map(plain, shown.splitlines())
        if not any(is_like(line, plain(other)) for other in output.splitlines())
    ]
    assert absent == [], "\n".join(absent)


@pytest.mark.parametrize(("one", "other"), [("x-0a1b2c3d  is 3.1 s", "x-deadbeef is 12.0 s"), ("│  -1.5 │", "│ +20 │")])
def test_only_figures_ids_and_spaces_may_differ(one: str, other: str) -> None:
    assert plain(one) == plain(other) != plain(one.replace("x", "y").replace("│", "┃"))


def plain(line: str) -> str:
    """A line with its ids, figures and spaces made alike."""
    line = re.sub(r"\b[0-9a-f]{8}\b", "0", line.strip())  # An id, or a figure of eight digits.
    return re.sub(r"\s+", " ", re.sub(r"[-+]?\d[\d.,]*", "0", line))


def is_like(shown: str, printed: str) -> bool:
    """Whether a plain line is as shown; what is left out is written as three dots."""
    return re.fullmatch(".*".join(map(re.escape, re.split(r" ?… ?", shown))), printed) is not None
