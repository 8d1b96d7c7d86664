"""Data at a path of the spec: their content is part of the key, and their place is not."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill_queue.scheduler.client.client import PipelineClient
from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.scheduler.stack.local import LocalStack
from distill_queue.shared.errors import PipelineFailed
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from tests.acceptance.conftest import DISTILL

#: Bytes of a file that takes a minute to hash; on the disk it takes none.
MUCH = 50_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of data with a file of arrays."""
    (folder := tmp_path / "data").mkdir()
    write(folder / "points.npz", 0)
    return folder


@pytest.fixture
def spec(write_spec: Callable[..., Path]) -> Path:
    """A spec that names the file."""
    return write_spec(dataset={"name": "arrays", "path": "points.npz"})


def write(path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    np.savez(path, inputs=generator.normal(size=(60, 4)).astype(np.float32), targets=np.arange(60) % 3)


def printed(environment: dict[str, str], folder: Path, *command: str) -> str:
    """What a command prints that is run in a folder."""
    command = (*DISTILL, *command)
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def outcome(results: PipelineResults) -> str:
    return next(stage.outcome for stage in results.stages if stage.kind == "prepare_data")


def test_changed_data_are_prepared_again_and_moved_ones_are_found(
    start_stack: Callable[..., LocalStack], data: Path, spec: Path
) -> None:
    settings = start_stack(workers=1, settings={"data": (data,)}).settings
    client = PipelineClient(settings)

    def run() -> PipelineResults:
        return client.submit(spec).watch()

    assert outcome(run()) == "computed"
    assert outcome(run()) == "found"

    (data / "points.npz").rename(data / "moved.npz")
    spec.write_text(spec.read_text().replace("points.npz", "moved.npz"))
    assert outcome(run()) == "found"

    write(data / "moved.npz", 1)
    assert outcome(run()) == "computed"


def test_changed_data_that_only_workers_see_are_never_silently_those_in_the_store(
    start_stack: Callable[..., LocalStack], data: Path, spec: Path, tmp_path: Path
) -> None:
    settings = start_stack(workers=1, settings={"data": (data,)}).settings
    blind: Settings = settings.model_copy(update={"data": (tmp_path,)})
    client = PipelineClient(blind)
    assert "content" not in load_spec(spec, blind).dataset.model_dump()
    assert outcome(client.submit(spec).watch()) == "computed"
    assert outcome(client.submit(spec).watch()) == "found"

    write(data / "points.npz", 1)

    with pytest.raises(PipelineFailed, match=r"points\.npz has changed since it was prepared"):
        client.submit(spec).watch()


def test_a_path_and_the_same_path_seen_have_two_keys(data: Path, spec: Path, tmp_path: Path) -> None:
    def key(*folders: Path, **options: Any) -> str:
        return Plan.of(load_spec(spec, Settings(store=str(tmp_path), data=folders, **options))).trunk[0].key

    seen, unseen = key(data), key(tmp_path)
    (data / "points.npz").rename(tmp_path / "points.npz")

    assert seen != unseen
    assert key(tmp_path) == seen


def test_submit_takes_the_data_that_plan_takes_and_not_those_in_the_working_folder(
    data: Path, spec: Path, environment: dict[str, str], settings: Settings
) -> None:
    environment["DISTILL_BROKER_URL"] = settings.broker_url

    planned = json.loads(printed(environment, data, "plan", "--json", str(spec)))["stages"]
    submitted = PipelineClient(settings).status(printed(environment, data, "submit", str(spec)).strip()).plan

    assert submitted.trunk[0].key == planned[0]["key"]
    assert "content" not in submitted.trunk[0].model_dump()["recipe"]["dataset"]


def test_samples_are_written_of_the_data_beside_the_spec(data: Path, spec: Path, environment: dict[str, str]) -> None:
    (data / "points.npz").rename(spec.with_name("points.npz"))

    printed(environment, data, "labels", "samples", str(spec), "samples")

    facts = json.loads((data / "samples" / "facts.json").read_text())
    planned = json.loads(printed(environment, data, "plan", "--json", str(spec)))["stages"]
    assert facts["dataset_key"] == planned[0]["key"]
    assert len(np.load(data / "samples" / "inputs.npy")) == 48


def test_looking_at_much_data_is_told_and_ends_by_ctrl_c(data: Path, spec: Path, environment: dict[str, str]) -> None:
    with spec.with_name("points.npz").open("wb") as file:
        file.truncate(MUCH)
    command = [*DISTILL, "plan", str(spec)]

    with subprocess.Popen(command, env=environment, cwd=data, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        told = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()

    assert re.fullmatch(r"looking for changes in points.npz: 0 of 1 files, [0-9,]+ of 50,000 MB\n", told)
    assert (process.returncode, rest.strip()) == (130, "")


def test_workers_that_a_command_starts_read_what_lies_beside_the_spec(
    data: Path, spec: Path, environment: dict[str, str]
) -> None:
    (data / "points.npz").rename(spec.with_name("points.npz"))
    command = [*DISTILL, "tune", str(spec), "--minutes", "5", "--trials", "1"]

    done = subprocess.run(command, env=environment, cwd=data, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "Best spec: " in done.stdout

    (best,) = (Path(environment["DISTILL_STORE"]) / "reports").glob("*-tune-*.yaml")
    again = subprocess.run(
        [*DISTILL, "run", best.name], env=environment, cwd=best.parent, capture_output=True, text=True, check=False
    )

    assert again.returncode == 0, again.stdout + again.stderr


def test_a_study_compares_by_the_held_out_samples_that_a_folder_has(
    data: Path, spec: Path, environment: dict[str, str]
) -> None:
    for part, rows in (("train", 60), ("validation", 20), ("test", 20)):
        lines = [f"{row % 3},{row % 7},{'ab'[row % 2]}" for row in range(rows)]
        table = data / "rows" / f"{part}.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text("\n".join(["x,y,label", *lines]))
    own = yaml.safe_load(spec.read_text()) | {"dataset": {"name": "table", "path": "rows", "target": "label"}}
    spec.write_text(yaml.safe_dump(own))
    command = [*DISTILL, "tune", str(spec), "--minutes", "5", "--trials", "1"]

    done = subprocess.run(
        command, env=environment | {"DISTILL_DATA": str(data)}, cwd=data, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "The spec holds out no samples" not in done.stdout
