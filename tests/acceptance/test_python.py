"""The client in Python, as scripts and notebooks use it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.client import PipelineClient
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.errors import InvalidSpec, PipelineFailed
from distill_queue.shared.ledger.results import COLUMNS, PipelineResults
from distill_queue.shared.spec import PipelineSpec
from tests.acceptance.conftest import with_workers
from tests.conftest import small_spec

EXAMPLE = Path(__file__).parents[2] / "examples" / "api.py"
#: Reads results where pandas cannot be imported.
WITHOUT_PANDAS = """
import sys
sys.modules["pandas"] = None
from distill_queue.scheduler.client import PipelineClient
from distill_queue.shared.ledger.results import PipelineResults
results = PipelineResults.model_validate_json(sys.stdin.read())
print(len(results.rows()), "<table>" in results._repr_html_())
try:
    results.frame()
except ImportError as error:
    print(error)
"""


def run(stack: LocalStack, *arguments: str | Path, given: str = "") -> str:
    environment = dict(os.environ) | stack.settings.environment
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, input=given, capture_output=True, text=True, timeout=240
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_the_example_compares_two_pipelines(stack: LocalStack) -> None:
    printed = run(stack, EXAMPLE)

    first, second = re.findall(r"t\d-[0-9a-f]{8}", printed.splitlines()[0])
    assert "small student 1 0." in printed
    assert {line.partition(":")[0] for line in printed.splitlines()[-2:]} == {first, second}
    assert all("beside training without the teacher: " in line for line in printed.splitlines()[-2:])


def test_a_file_a_mapping_and_a_spec_are_submitted_alike(
    stack: LocalStack, client: PipelineClient, write_spec: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pipelines = [client.submit(spec) for spec in (str(write_spec()), small_spec(), PipelineSpec.of(small_spec()))]

    results = [pipeline.watch() for pipeline in pipelines]

    assert "report" in capsys.readouterr().out
    assert len({each.scores.model_dump_json() for each in results}) == 1
    assert {pipeline.status.state for pipeline in pipelines} == {"done"}
    frame = results[0].frame()
    assert list(frame.columns) == list(COLUMNS)
    assert list(frame.role) == ["teacher", "student", "control"]
    assert frame.accuracy.tolist() == [row["accuracy"] for row in results[0].rows()]
    assert "train teacher" in pipelines[0]._repr_html_()
    lines = run(stack, "-c", WITHOUT_PANDAS, given=results[0].model_dump_json()).splitlines()
    assert lines[0] == "3 True"
    assert lines[1] == "a frame needs pandas: pip install pandas; rows() does without"
    assert "&lt;b&gt;" in with_name(results[0], "<b>")._repr_html_()
    assert "<b>" not in with_name(results[0], "<b>")._repr_html_()


@with_workers(0)
def test_what_cannot_be_used_or_has_no_results_is_said(client: PipelineClient, make_spec: Callable[..., Any]) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec: studnets: unknown key; did you mean 'students'\?"):
        client.submit(small_spec() | {"studnets": []})
    cancelled = client.submit(make_spec(device="gpu"))
    with pytest.raises(PipelineFailed, match="is waiting: 'distill watch"):
        cancelled.results()

    cancelled.cancel()

    with pytest.raises(PipelineFailed, match=f"{cancelled} was cancelled"):
        client.compare([cancelled])


def with_name(results: PipelineResults, name: str) -> PipelineResults:
    """The same with another name for its students, as no spec allows it."""
    students = tuple(score.model_copy(update={"name": name}) for score in results.scores.students)
    return results.model_copy(update={"scores": results.scores.model_copy(update={"students": students})})
