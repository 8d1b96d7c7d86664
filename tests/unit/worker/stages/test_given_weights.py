"""Given weights, looked at before anything is sent: what they are, and what to do, in the user's own words."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save, save_file
from safetensors.torch import save_file as save_tensors
from torch import nn

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage
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


@pytest.fixture
def taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Stage]:
    """The stage that loads a teacher that is given in a file, or in what stands for one in a spec."""
    monkeypatch.chdir(tmp_path)

    def taken(checkpoint: str) -> Stage:
        Path("spec.yaml").write_text(SPEC % ("digits", "{name: mlp, hidden: [32]}", checkpoint))
        return Plan.of(PipelineSpec.load("spec.yaml")).trunk[1]

    return taken


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


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module._orig_mod.", "net.0."])
@pytest.mark.parametrize("part", ["", "state_dict", "model"])
def test_what_torch_saved_is_taken_with_what_wrappers_put_before_its_names(
    taken: Callable[[str], Stage], prefix: str, part: str
) -> None:
    weights = {f"{prefix}{name}": torch.from_numpy(array) for name, array in WEIGHTS.items()}
    torch.save({part: weights, "epoch": 3, "optimizer": {"state": {0: weights}}} if part else weights, "teacher.pth")

    load = taken("teacher.pth")

    notes = [*([f"its part '{part}'"] if part else []), *([f"names without '{prefix}'"] if prefix else [])]
    said = f" ({', '.join(notes)})" if notes else ""
    assert load.title == f"load teacher from teacher.pth{said}"


def test_the_same_weights_have_one_key_in_a_file_of_torchs_and_in_one_of_safetensors(
    taken: Callable[[str], Stage],
) -> None:
    weights = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
    torch.save({"state_dict": weights, "epoch": 3}, "teacher.pth")
    save_tensors(weights, "teacher.safetensors")

    assert taken("teacher.pth").key == taken("teacher.safetensors").key


def test_a_folder_of_hugging_faces_is_taken_whole_or_in_pieces(taken: Callable[[str], Stage]) -> None:
    weights, keys = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}, set()
    halves = {"a": list(WEIGHTS)[:2], "b": list(WEIGHTS)[2:]}
    for number, name in enumerate(("model.safetensors", "pytorch_model.bin")):
        write = save_tensors if number == 0 else torch.save
        (whole := Path(f"whole-{number}")).mkdir()
        write(weights, whole / name)
        (pieces := Path(f"pieces-{number}")).mkdir()
        for half, names in halves.items():
            write({each: weights[each] for each in names}, pieces / f"{half}.bin")
        places = {each: f"{half}.bin" for half, names in halves.items() for each in names}
        (pieces / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
        assert taken(str(whole)).title == f"load teacher from whole-{number}"
        keys |= {taken(str(folder)).key for folder in (whole, pieces, pieces / f"{name}.index.json")}

    assert len(keys) == 1


def test_of_several_weights_in_a_file_the_ones_that_fit_are_taken_or_one_is_to_be_named(
    refused: Callable[..., str], taken: Callable[[str], Stage]
) -> None:
    weights = {name: torch.from_numpy(array) for name, array in WEIGHTS.items()}
    torch.save({"model": weights, "ema": {"shadow": dict(weights)}, "criterion": {"a": torch.zeros(3)}}, "both.pth")
    torch.save({"model": weights, "criterion": {"a": torch.zeros(3)}}, "one.pth")

    said = refused("both.pth")

    assert said == (
        "spec.yaml:5: teacher.checkpoint: both.pth: has several weights, model (4 tensors), ema.shadow (4 tensors): "
        "say which, as {file: both.pth, part: model}"
    )
    assert taken("{file: both.pth, part: ema.shadow}").title.endswith("both.pth (its part 'ema.shadow')")
    assert taken("one.pth").title == "load teacher from one.pth (its part 'model')"
    assert refused("{file: both.pth, part: models}").endswith(
        "both.pth: has no part 'models'; did you mean 'model'? (known: criterion, ema.shadow, model)"
    )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "an empty file"),
        (b"\x80\x02}q\x00.", "a pickle that torch.save did not write, and nothing is unpickled here"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page, which a download brought in place of the"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS: 'git lfs pull'"),
        (save(WEIGHTS)[:100], "safetensors that ends too early, at byte 100"),
        (save(WEIGHTS)[:-100], "no safetensors file: its tensors are cut off"),
        (b'{"metadata": {}, "weights": {}}', "JSON text, and no list of the pieces of a model"),
        (b"\x89HDF\r\n", "an HDF5 file, as Keras writes it"),
        (b"PK\x03\x04 and then nothing", "an archive that ends too early"),
    ],
)
def test_a_file_of_another_kind_is_called_what_it_is(refused: Callable[..., str], content: bytes, kind: str) -> None:
    for model in ("{name: mlp, hidden: [32]}", "{name: torchvision/resnet18}", "{name: 'mine:model'}"):
        said = refused("weights.safetensors", content, model)

        assert said.startswith("spec.yaml:5: teacher.checkpoint: weights.safetensors: ")
        assert (
            said.removeprefix("spec.yaml:5: teacher.checkpoint: weights.safetensors: ")
            .removeprefix("no weights: ")
            .startswith(kind)
        )


def test_arrays_of_numpys_are_no_weights(refused: Callable[..., str]) -> None:
    np.savez("weights.npz", **WEIGHTS)

    assert "weights.npz: no weights: arrays of NumPy's" in refused("weights.npz")


def test_an_archive_is_called_one(refused: Callable[..., str]) -> None:
    with zipfile.ZipFile("weights.zip", "w") as archive:
        archive.writestr("weights.safetensors", b"")

    assert "weights.zip: no weights: a zip archive" in refused("weights.zip")


def test_of_a_folder_without_weights_by_a_known_name_the_file_in_it_is_asked_for(refused: Callable[..., str]) -> None:
    Path("bert").mkdir()
    assert "teacher.checkpoint: bert: a folder without model.safetensors, pytorch_model.bin or a list" in refused(
        "bert"
    )

    Path("bert/epoch-3.pth").touch()
    assert refused("bert").endswith("name one of its files (epoch-3.pth)")


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

    with pytest.raises(InvalidSpec, match=r"spec.yaml:5: teachers\[1\].checkpoint: wrong.pt: a pickle that"):
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

    with pytest.raises(InvalidSpec, match=r"^spec: teacher.checkpoint: wrong.pt: a pickle"):
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
        "teacher.checkpoint: fine.safetensors: not the weights of this model: missing 1.weight, 1.bias; "
        "unexpected module.1.weight"
    )
