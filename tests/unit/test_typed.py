"""What users type: ids, paths and certificates that cannot be used are one message; nothing is waited for."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from distill_queue.scheduler.cli.main import app
from distill_queue.scheduler.labels.caches import import_file
from distill_queue.shared.errors import InvalidInput, InvalidSettings, InvalidSpec, UnknownPipeline
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spelling import pipeline_id
from distill_queue.shared.store.folder_store import FolderStore

#: No shell passes a NUL on; typer itself refuses it in a path since 0.29.
TYPER_KNOWS_NUL = tuple(map(int, version("typer").split(".")[:2])) >= (0, 29)
REFUSED_BY_TYPER = pytest.mark.skipif(not TYPER_KNOWS_NUL, reason="this typer passes a NUL in a path on")


@pytest.mark.parametrize("pipeline", ["a\0b", "a\nb", "\udcff", "../..", "", "a b", "x" * 10_000, "\x1b[31m"])
def test_what_can_be_no_pipelines_id_is_said_before_the_broker_is_asked(tmp_path: Path, pipeline: str) -> None:
    with pytest.raises(UnknownPipeline, match="is no pipeline's id") as raised:
        pipeline_id(pipeline)

    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("pipeline", ["a\0b", "x" * 10_000])
def test_what_can_be_no_name_of_a_file_is_no_pipelines_id(tmp_path: Path, pipeline: str) -> None:
    with pytest.raises(UnknownPipeline, match="is no pipeline's id"):
        FolderStore(tmp_path).report(pipeline)


@pytest.mark.parametrize("value", [{"name": 10**5_000}, {(1, 2): 3}, {"name": "\ud800"}, {"name": [[[]]] * 20_000}])
def test_a_mapping_from_python_has_the_limits_of_a_file(value: dict[Any, Any]) -> None:
    with pytest.raises(InvalidSpec, match="spec: "):
        PipelineSpec.of(value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pipe.npz", "pipe.npz: a pipe, not a file"),
        ("zero.npz", "zero.npz: a device, not a file"),
        ("folder.npz", "folder.npz: a folder, not a file"),
        ("a\0.npz", "it has a NUL"),
    ],
)
def test_labels_are_imported_from_files_only(tmp_path: Path, name: str, message: str) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "folder.npz").mkdir()

    with pytest.raises(InvalidInput, match=message):
        import_file(tmp_path / name, tmp_path / "new", Encoding(dtype="float16"))

    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["init", "a\0b"], marks=REFUSED_BY_TYPER),
        pytest.param(["plan", "a\0b"], marks=REFUSED_BY_TYPER),
        pytest.param(["validate", "a\0b"], marks=REFUSED_BY_TYPER),
        ["labels", "info", "a\0b"],
        pytest.param(["labels", "import", "x.npz", "a\0b"], marks=REFUSED_BY_TYPER),
        pytest.param(["labels", "samples", "x.yaml", "a\0b"], marks=REFUSED_BY_TYPER),
        pytest.param(["labels", "samples", "a\0b", "new"], marks=REFUSED_BY_TYPER),
        ["store", "verify", "a\0b"],
        ["store", "verify", "x" * 10_000],
        ["worker", "--devices", "x" * 10_000],
        ["worker", "--queues", "x" * 10_000],
        pytest.param(["report", "a", "--output", "a\0b"], marks=REFUSED_BY_TYPER),
        ["report", "a\0b", "--output", "x.html"],
    ],
)
def test_a_command_says_of_a_path_or_key_that_is_none_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISTILL_BROKER_URL", "redis://127.0.0.1:1/0")

    done = CliRunner().invoke(app, command)

    said = str(done.exception) if isinstance(done.exception, InvalidInput | UnknownPipeline) else done.output
    assert done.exit_code == 2 or said != done.output, done.exception
    assert len(said) < 500


def test_certificates_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").touch()
    os.truncate(tmp_path / "huge", 10**12)
    monkeypatch.setenv("DISTILL_BROKER_URL", "rediss://x")

    for name in ("CA", "CERTIFICATE", "KEY"):
        monkeypatch.setenv("DISTILL_BROKER_CERTIFICATE", __file__ if name == "KEY" else "")
        monkeypatch.setenv("DISTILL_BROKER_KEY", __file__ if name == "CERTIFICATE" else "")
        for path, message in (
            (tmp_path / "pipe", "a pipe, not a file"),
            ("/dev/zero", "a device, not a file"),
            (tmp_path / "huge", "larger than 10,000,000 bytes"),
            (tmp_path, "a folder, not a file"),
            ("x" * 10_000, "File name too long"),
        ):
            monkeypatch.setenv(f"DISTILL_BROKER_{name}", str(path))
            with pytest.raises(InvalidSettings, match=f"DISTILL_BROKER_{name}: .*{message}"):
                Settings.load()
        monkeypatch.delenv(f"DISTILL_BROKER_{name}")


def test_a_certificate_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISTILL_BROKER_URL", "rediss://x")
    monkeypatch.setenv("DISTILL_BROKER_CA", "/proc/self/mem")

    with pytest.raises(InvalidSettings, match="DISTILL_BROKER_CA: /proc/self/mem: no certificate in PEM"):
        Settings.load()
