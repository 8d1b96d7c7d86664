"""Given weights, looked at before anything is sent: what they are, and what to do, in the user's own words."""

from __future__ import annotations

import shlex
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save, save_file
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

SPEC = """\
name: given
dataset: {name: %s}
teacher:
  model: %s
  checkpoint: %s
students:
  - {name: small, model: {name: mlp, hidden: [8]}}
"""

WEIGHTS = {
    "layers.0.weight": np.zeros((32, 64), np.float32),
    "layers.0.bias": np.zeros(32, np.float32),
    "head.weight": np.zeros((10, 32), np.float32),
    "head.bias": np.zeros(10, np.float32),
}


def prefixed(prefix: str) -> dict[str, Any]:
    return {f"{prefix}{name}": array for name, array in WEIGHTS.items()}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is said of a spec whose teacher is given in a file."""
    monkeypatch.chdir(tmp_path)

    def refused(
        name: str, content: bytes | None = None, model: str = "{name: mlp, hidden: [32]}", dataset: str = "digits"
    ) -> str:
        if content is not None:
            Path(name).write_bytes(content)
        Path("spec.yaml").write_text(SPEC % (dataset, model, name))
        with pytest.raises(InvalidSpec) as raised:
            PipelineSpec.load("spec.yaml")
        assert "\n" not in str(raised.value)
        return str(raised.value)

    return refused


def run_command(said: str) -> None:
    """Run the command that a message ends with, in this process: torch is loaded here."""
    words = shlex.split(said[said.index("python -c ") :].partition("; beside that")[0])
    assert words[:2] == ["python", "-c"]
    exec(words[2], {})


def test_weights_that_fit_are_taken(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "right.safetensors")
    (tmp_path / "spec.yaml").write_text(SPEC % ("digits", "{name: mlp, hidden: [32]}", "right.safetensors"))

    plan = Plan.of(PipelineSpec.load(tmp_path / "spec.yaml"))

    assert plan.trunk[1].title == "load teacher from right.safetensors"


def test_weights_from_before_batch_norm_counted_its_batches_are_taken(tmp_path: Path) -> None:
    weights = {"blocks.0.0.weight": np.zeros((4, 1, 3, 3), np.float32), "head.weight": np.zeros((10, 4), np.float32)}
    weights["head.bias"] = np.zeros(10, np.float32)
    weights |= {f"blocks.0.2.{name}": np.zeros(4, np.float32) for name in ("weight", "bias", "running_mean")}
    save_file(weights | {"blocks.0.2.running_var": np.zeros(4, np.float32)}, tmp_path / "old.safetensors")
    (tmp_path / "spec.yaml").write_text(SPEC % ("digits", "{name: cnn, width: 4, depth: 1}", "old.safetensors"))

    assert Plan.of(PipelineSpec.load(tmp_path / "spec.yaml")).trunk[1].title == "load teacher from old.safetensors"


def test_what_torch_saved_is_named_with_a_line_that_makes_safetensors_of_it(refused: Callable[..., str]) -> None:
    model = nn.Module()
    model.layers, model.head = nn.ModuleList([nn.Linear(64, 32)]), nn.Linear(32, 10)
    torch.save(model.state_dict(), "teacher.pth")

    said = refused("teacher.pth")

    assert said.startswith(
        "spec.yaml:5: teacher.checkpoint: teacher.pth: no safetensors file: a pickle, as torch.save writes it: of a "
        "state_dict this makes one: python -c "
    )
    run_command(said)
    assert load_file("teacher.safetensors").keys() == WEIGHTS.keys()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"\x80\x02}q\x00.", "a pickle, as torch.save writes it"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, which a download brought in place of the"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS: 'git lfs pull'"),
        (save(WEIGHTS)[:100], "safetensors that ends too early, at byte 100"),
        (save(WEIGHTS)[:-100], "its tensors are cut off"),
        (b'{"metadata": {}, "weight_map": {}}', "JSON text: of a model in several files this is the index"),
        (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it"),
        (b"PK\x03\x04 and then nothing", "an archive that ends too early"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(refused: Callable[..., str], content: bytes, kind: str) -> None:
    for model in ("{name: mlp, hidden: [32]}", "{name: torchvision/resnet18}", "{name: 'mine:model'}"):
        said = refused("weights.safetensors", content, model)

        assert "spec.yaml:5: teacher.checkpoint: weights.safetensors: no safetensors file: " + kind in said


def test_arrays_of_numpys_are_no_weights(refused: Callable[..., str]) -> None:
    np.savez("weights.npz", **WEIGHTS)

    assert "weights.npz: no safetensors file: arrays of NumPy's" in refused("weights.npz")


def test_an_archive_is_called_one(refused: Callable[..., str]) -> None:
    with zipfile.ZipFile("weights.zip", "w") as archive:
        archive.writestr("weights.safetensors", b"")

    assert "weights.zip: no safetensors file: a zip archive" in refused("weights.zip")


def test_of_a_folder_the_file_in_it_is_asked_for(refused: Callable[..., str]) -> None:
    Path("bert").mkdir()
    assert "spec.yaml:5: teacher.checkpoint: bert is a folder: name the file in it (it has no such)" in refused("bert")

    Path("bert/model.safetensors").touch()
    assert "name the file in it (model.safetensors)" in refused("bert")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model.", "module._orig_mod.", "net.0."])
def test_what_a_wrapper_put_before_all_names_is_taken_away_by_the_line_that_is_given(
    refused: Callable[..., str], prefix: str
) -> None:
    said = refused("teacher.safetensors", save(prefixed(prefix)))

    assert f"spec.yaml:5: teacher.checkpoint: teacher.safetensors: its names begin with '{prefix}'" in said
    run_command(said)
    Path("spec.yaml").write_text(SPEC % ("digits", "{name: mlp, hidden: [32]}", "teacher-renamed.safetensors"))
    assert PipelineSpec.load("spec.yaml").teacher is not None


def test_what_is_wrong_beside_the_prefix_is_said_too(refused: Callable[..., str]) -> None:
    weights = prefixed("module.") | {"module.layers.0.bias": np.zeros(31, np.float32)}

    assert "; beside that, layers.0.bias is [31], not [32]" in refused("t.safetensors", save(weights))


@pytest.mark.parametrize(
    ("changes", "model", "dataset", "said"),
    [
        (
            {"head.weight": np.zeros((20, 32), "f4")},
            "[32]",
            "digits",
            "tells 20 classes apart, data set 'digits' has 10",
        ),
        (
            {},
            "[33]",
            "digits",
            "layers.0.weight is [32, 64], not [33, 64], layers.0.bias is [32], not [33], head.weight",
        ),
        ({}, "[32]", "mnist_5k", "not the weights of this model: layers.0.weight is [32, 64], not [32, 784]"),
        ({}, "[32, 32]", "digits", "missing layers.1.weight, layers.1.bias"),
        (
            {f"more.{n}": np.zeros(1, "f4") for n in range(5)},
            "[32]",
            "digits",
            "unexpected more.0, more.1, more.2 and 2 m",
        ),
        (
            {"head.bias": np.zeros(10, np.int8)},
            "[32]",
            "digits",
            "head.bias is of type I8, not a floating point number",
        ),
        ({}, "[40]", "'mine:data'", "layers.0.weight is [32, 64], not [40, any]"),
    ],
)
def test_weights_of_another_model_are_refused_by_name_and_shape(
    refused: Callable[..., str], changes: dict[str, Any], model: str, dataset: str, said: str
) -> None:
    answer = refused("t.safetensors", save(WEIGHTS | changes), f"{{name: mlp, hidden: {model}}}", dataset)

    assert answer.startswith("spec.yaml:5: teacher.checkpoint: t.safetensors")
    assert said in answer


def test_each_of_several_teachers_is_looked_at(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "right.safetensors")
    (tmp_path / "wrong.pt").write_bytes(b"\x80\x04")
    (tmp_path / "spec.yaml").write_text(
        "name: several\ndataset: {name: digits}\nteachers:\n"
        "  - {model: {name: mlp, hidden: [32]}, checkpoint: right.safetensors}\n"
        "  - {model: {name: mlp, hidden: [16]}, checkpoint: wrong.pt}\n"
        "students:\n  - {name: small, model: {name: mlp, hidden: [8]}}\n"
    )

    with pytest.raises(
        InvalidSpec, match=r"spec.yaml:5: teachers\[1\].checkpoint: wrong.pt: no safetensors file: a pic"
    ):
        PipelineSpec.load(tmp_path / "spec.yaml")


def test_the_files_of_a_spec_that_was_made_in_python_are_looked_at_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("wrong.pt").write_bytes(b"\x80\x04")
    mlp = {"name": "mlp", "hidden": [8]}
    spec = PipelineSpec.model_validate(
        {"name": "made", "teacher": {"model": mlp, "checkpoint": "wrong.pt"}, "students": [{"name": "s", "model": mlp}]}
    )

    with pytest.raises(InvalidSpec, match=r"^spec: teacher.checkpoint: wrong.pt: no safetensors file: a pickle"):
        spec.with_files()


def test_what_only_a_worker_can_tell_it_tells_in_the_same_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ModuleType("mine")
    own.model = lambda input_shape, classes: nn.Sequential(nn.Flatten(), nn.Linear(64, classes))  # type: ignore[attr-defined]
    own.model.__module__ = "mine"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mine", own)
    save_file({"module.1.weight": np.zeros((10, 8), np.float32)}, tmp_path / "fine.safetensors")
    (tmp_path / "spec.yaml").write_text(SPEC % ("digits", "{name: 'mine:model'}", "fine.safetensors"))
    plan, store = Plan.of(PipelineSpec.load(tmp_path / "spec.yaml")), FolderStore(tmp_path / "store")
    runtime = Runtime(torch.device("cpu"), plugins=("mine",))
    data, load = plan.trunk[:2]
    with store.draft(load.inputs["checkpoint"]) as draft:
        (draft / "model.safetensors").write_bytes((tmp_path / "fine.safetensors").read_bytes())
        store.commit(
            load.inputs["checkpoint"], draft, stage=None, record=None, provenance=runtime.provenance, seconds=0.0
        )
    runner = StageRunner(store, runtime, lambda *_: None)
    runner.run(data)

    with pytest.raises(InvalidSpec) as raised:
        runner.run(load)

    assert load.title == "load teacher from fine.safetensors"
    assert str(raised.value) == (
        "teacher.checkpoint: not the weights of this model: missing 1.weight, 1.bias; unexpected module.1.weight"
    )
