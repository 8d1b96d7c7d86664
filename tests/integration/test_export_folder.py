"""Folders of exported students: each is made, taken away, and runs where distill-queue cannot be imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from distill_queue.scheduler.cli.main import app
from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.scheduler.client.outcome import keep_results
from distill_queue.scheduler.client.trained import find_student
from distill_queue.scheduler.exports.programs import load_program, predict_program
from distill_queue.scheduler.exports.samples import FileInput, inputs_of
from distill_queue.scheduler.exports.weights import weights_of
from distill_queue.shared.errors import BrokerUnavailable, InvalidInput, InvalidSettings
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import ArtifactRef
from distill_queue.shared.results.records import DatasetRecord, InputRecord
from distill_queue.shared.results.scores import ReportRecord
from distill_queue.shared.results.stage_record import StageRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.student import StudentSpec
from distill_queue.shared.store.store import store_of
from distill_queue.worker import models
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.offline import library_configuration
from distill_queue.worker.stages.runner import StageRunner

ROOT = Path(__file__).parents[2]
SHORT = {"epochs": 1, "batch_size": 128}
CPU = torch.device("cpu")
#: What every driver begins with: nothing of this project can be imported, nor what is named.
BARE = """
import importlib.util, sys
import numpy as np

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("distill_queue", {absent!r}):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())

def program(path):
    spec = importlib.util.spec_from_file_location("program", path)
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module
"""
#: The logits of `load.py` for the raw inputs in given.npz, for each folder.
BY_LOAD = """
import torch
for folder in sys.argv[1:]:
    given = {name: torch.from_numpy(each) for name, each in np.load(f"{folder}/given.npz").items()}
    student = program(f"{folder}/load.py").load()
    with torch.inference_mode():
        logits = student(*given.values()) if "input" in given else student(**given)
    np.save(f"{folder}/logits.npy", logits.numpy())
"""
#: The inputs that `predict.py` makes of a file or text, and the exported file's logits.
BY_PREDICT = """
import onnxruntime
folder, what = sys.argv[1:]
inputs = program(f"{folder}/predict.py").read(what)
np.savez(f"{folder}/given.npz", **inputs)
np.save(f"{folder}/logits.npy", onnxruntime.InferenceSession(f"{folder}/model.onnx").run(None, inputs)[0])
"""


def drive(script: str, *arguments: str | Path, absent: str = "") -> None:
    """Run a driver in an empty folder."""
    text = BARE.format(absent=absent) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-P", "-c", text, *map(str, arguments)],
        cwd="/", env=os.environ | {"PYTHONPATH": str(ROOT / "examples" / "custom")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def given_in(folder: Path) -> dict[str, npt.NDArray[Any]]:
    """The raw inputs that a program has written."""
    with np.load(folder / "given.npz") as arrays:
        return dict(arrays)


def same(of_file: npt.NDArray[Any], of_torch: npt.NDArray[Any]) -> bool:
    """Whether logits are the same to rounding, and choose the same classes."""
    near = np.abs(of_file - of_torch).max() <= 1e-5 * np.ptp(of_file)
    return bool(near and (of_file.argmax(1) == of_torch.argmax(1)).all())


class Pipeline:
    """A pipeline that was run as by `distill run`, in this process; its broker is gone."""

    def __init__(self, folder: Path, name: str, dataset: dict[str, Any], *students: dict[str, Any]) -> None:
        values = {
            "name": name,
            "dataset": dataset,
            "evaluation": {"control": False},
            "teacher": {"model": students[0]["model"], "training": SHORT},
            "students": [{"training": SHORT, **student} for student in students],
        }
        (path := folder / f"{name}.yaml").write_text(yaml.safe_dump(values))
        self.id, self.folder = f"{name}-0123abcd", folder
        self.settings = Settings(store=folder / "store", data=(folder,), broker_url="redis://127.0.0.1:1", cache=folder)
        runner = StageRunner(store_of(self.settings), Runtime.probe(self.settings, "cpu"), lambda *_: None)
        plan = Plan.of(load_spec(path, self.settings))
        report = [runner.store.obtain(stage.ref) or runner.run(stage) for stage in plan.stages][-1].record
        assert isinstance(report, ReportRecord)
        stage = StageRecord(
            key=plan.report.key, kind="report", title="report", outcome="computed", seconds=0, worker="", record=report
        )
        keep_results(self.settings, PipelineResults.of(self.id, plan, report, (stage,)))

    def export(self, *arguments: str) -> str:
        """What `distill export` prints.

        Raises:
            DistillError: it fails.

        """
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            command = ["export", self.id, *arguments]
            done = CliRunner(env=self.settings.environment).invoke(app, command, catch_exceptions=False)
        finally:
            os.chdir(before)
        assert done.exit_code == 0, done.output
        return done.output


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Two students on images: one with a licence in its spec, one with a grid and two seeds."""
    return Pipeline(
        tmp_path_factory.mktemp("digits"),
        "digits",
        {"name": "digits", "validation": 0.1},
        {
            "name": "mlp", "model": {"name": "mlp", "hidden": [8]},
            "export": {"formats": ["onnx"], "licence": "CC-BY-4.0"},
        },
        {
            "name": "cnn", "model": {"name": "cnn", "width": {"grid": [2, 4]}, "depth": 2}, "seeds": 2,
            "export": {"formats": ["onnx"]},
        },
    )  # fmt: skip


def test_the_programs_of_an_image_answer_alike_without_distill_queue(digits: Pipeline) -> None:
    folders, of_files = [digits.folder / name for name in ("mlp", "cnn")], []
    picture = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(picture).save(digits.folder / "picture.png")
    for folder in folders:
        digits.export(folder.name)
        drive(BY_PREDICT, folder, digits.folder / "picture.png", absent="torch")
        of_files.append(np.load(folder / "logits.npy"))
    drive(BY_LOAD, *folders, absent="onnxruntime")

    for folder, of_file in zip(folders, of_files, strict=True):
        # White is 16 in scikit-learn's digits.
        assert (given_in(folder)["input"][0, 0] == (picture * (16 / 255)).round()).all()
        assert same(of_file, np.load(folder / "logits.npy"))


def test_a_predicting_program_prints_a_class_and_its_share(digits: Pipeline, tmp_path: Path) -> None:
    digits.export("mlp", "--output", str(folder := tmp_path / "mlp"))
    np.save(tmp_path / "three.npy", np.zeros((3, 1, 8, 8), np.uint8))

    command = [sys.executable, "-P", str(folder / "predict.py"), str(tmp_path / "three.npy")]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert len(lines) == 3
    path, label, share = lines[0].split("\t")
    assert (path, label in map(str, range(10)), share.endswith("%")) == (str(tmp_path / "three.npy"), True, True)


def test_the_same_export_gives_the_same_bytes_and_a_card_that_says_what_it_is(digits: Pipeline, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        said = digits.export("mlp", "--output", str(tmp_path / name / "mlp"))
    first, second = (
        {each.name: each.read_bytes() for each in (tmp_path / name / "mlp").iterdir()} for name in ("one", "two")
    )

    assert first == second
    assert f"Next: python {tmp_path}/two/mlp/predict.py IMAGE.png" in said
    card = first["card.md"].decode()
    for text in (
        "mlp 8, a classifier of 10 classes",
        "T=4 alpha=0.9",
        "CC-BY-4.0",
        "uint8 [samples, 1, 8, 8]",
        "not measured on a phone",
    ):
        assert text in card
    assert str(tmp_path) not in card
    assert b"CC-BY-4.0" in first["model.onnx"]


def test_what_cannot_be_exported_is_said_in_the_users_words(digits: Pipeline, tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"digits-0123abcd has no student 'mpl'; did you mean 'mlp'\? \(known: cnn, mlp\)"
    ):
        digits.export("mpl")
    with pytest.raises(
        InvalidInput, match="--seed: 'cnn' of digits-0123abcd was trained with the seeds 0, 1, and not with 2"
    ):
        digits.export("cnn", "--seed", "2")
    with pytest.raises(InvalidSettings, match="--format: unknown format 'onx'; did you mean 'onnx'"):
        digits.export("mlp", "--format", "onx")
    digits.id = "digits-0123abce"
    with pytest.raises(BrokerUnavailable, match=r"kept no results of it here.*; did you mean 'digits-0123abcd'\?"):
        digits.export("mlp")
    digits.id = "digits-0123abcd"


def test_a_model_of_another_seed_is_exported_when_it_is_asked_for(digits: Pipeline) -> None:
    digits.export("cnn", "--seed", "1", "--output", "second")

    card = (digits.folder / "second" / "card.md").read_text()
    assert "Seed 1 of 2, chosen from a grid on held-out samples: width" in card
    assert (digits.folder / "second" / "model.onnx").stat().st_size > 1_000


def test_a_removed_student_is_said_to_be_so_and_nothing_is_written(tmp_path: Path) -> None:
    pipeline = Pipeline(
        tmp_path, "digits", {"name": "digits"}, {"name": "mlp", "model": {"name": "mlp", "hidden": [8]}}
    )
    (trained,) = (tmp_path / "store" / "artifacts" / "distill").glob("*/*")
    trained.rename(tmp_path / "removed")

    with pytest.raises(
        InvalidInput,
        match=r"'mlp' of digits-0123abcd: its model, its scores or its data are not in .*: they were removed",
    ):
        pipeline.export("mlp")

    assert not (tmp_path / "mlp").exists()


IMAGES = DatasetRecord(
    shape=(1, 32, 32), class_names=("a", "b", "c"), train_samples=1, labelled_samples=1, validation_samples=0,
    test_samples=1, mean=(3.5,), std=(0.7,),
)  # fmt: skip


FAMILIES: tuple[dict[str, Any], ...] = (
    {"name": "mlp", "hidden": [4, 3]},
    {"name": "cnn", "width": 2, "depth": 3},
    {"name": "resnet14"},
    {"name": "torchvision/shufflenet_v2_x0_5"},
    {"name": "timm/test_resnet"},
    {"name": "timm/test_vit", "options": {"patch_size": 8}},
    {"name": "own.models:runs", "options": {"buckets": 11}},
)


def test_plain_pytorch_builds_each_family_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "custom")
    wanted = {tmp_path / str(place): _written(model, tmp_path / str(place)) for place, model in enumerate(FAMILIES)}

    drive(BY_LOAD, *wanted)

    for (folder, logits), model in zip(wanted.items(), FAMILIES, strict=True):
        assert same(logits, np.load(folder / "logits.npy")), model["name"]


def _written(model: dict[str, Any], folder: Path) -> npt.NDArray[Any]:
    """Write the weights of an untrained student, its program and samples; return its logits of these."""
    folder.mkdir()
    spec = StudentSpec.model_validate({"name": "small", "model": model}).model
    own = model["name"].startswith("own.")
    data = IMAGES.model_copy(update={"shape": (9,), "mean": (), "std": ()}) if own else IMAGES
    kind = "tokens" if own else "numbers"
    given = InputRecord.model_validate({"kind": kind, "shape": data.shape, "mean": data.mean, "std": data.std})
    built = models.build(spec, data, Runtime(CPU, plugins=("own",)), seed=1).eval()
    models.save(built, folder / "weights")
    (folder / "model.safetensors").write_bytes(weights_of((folder / "weights").read_bytes(), spec.family))
    inputs = (FileInput("input", "int64" if own else "float32", given),)
    (folder / "load.py").write_text(load_program("small", spec, data, inputs))
    raw = torch.randint(0, 9, (5, *data.shape)) if own else 3 + torch.rand(5, *data.shape)
    np.savez(folder / "given.npz", input=raw.numpy())
    with torch.inference_mode():
        logits: npt.NDArray[Any] = built(raw if own else (raw - 3.5) / 0.7).numpy()
    return logits


def test_a_tables_rows_become_the_inputs_that_its_students_learned_from(tmp_path: Path) -> None:
    rows = [
        f"{row % 7 / 2},{('red', 'white')[row % 2]},{row % 3 == 0},{('port', 'cava')[row % 2]}" for row in range(60)
    ]
    (tmp_path / "wine.csv").write_text("\n".join(["age, colour,sweet,kind", *rows, ",red,true,port"]))
    dataset = {"name": "table", "path": "wine.csv", "target": "kind", "missing": "mean"}
    pipeline = Pipeline(tmp_path, "wines", dataset, {"name": "mlp", "model": {"name": "mlp", "hidden": [4]}})
    found = find_student(pipeline.id, "mlp", None, pipeline.settings)
    stored = [np.load(found.dataset.folder / f"{split}_inputs.npy") for split in ("train", "test")]
    (tmp_path / "predict.py").write_text(predict_program(found, inputs_of(found), "model.onnx"))
    (tmp_path / "columns.json").write_bytes((found.dataset.folder / "columns.json").read_bytes())

    drive("np.save(sys.argv[2], program(sys.argv[1]).read(sys.argv[3])['input'])",
          tmp_path / "predict.py", tmp_path / "read.npy", tmp_path / "wine.csv", absent="pyarrow")  # fmt: skip

    in_order = [sorted(map(tuple, each.tolist())) for each in (np.concatenate(stored), np.load(tmp_path / "read.npy"))]
    assert in_order[0] == in_order[1]


def test_a_model_of_transformers_leaves_as_the_hub_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers, hub = pytest.importorskip("transformers"), pytest.importorskip("huggingface_hub")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "fine", "dull", *map(str, range(10))]
    texts = [
        f"a {word} film {n % 10},{label}" for label, word in (("good", "fine"), ("bad", "dull")) for n in range(30)
    ]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *texts]))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8,
    )  # fmt: skip
    config.save_pretrained(tmp_path / "bert")
    transformers.BertTokenizer(vocab={word: n for n, word in enumerate(words)}).save_pretrained(tmp_path / "bert")
    dataset = {"name": "text", "path": "reviews.csv", "tokenizer": "bert", "length": 8}
    bert = {"name": "huggingface/bert", "pretrained": False}
    exported = {"formats": ["onnx"], "licence": "cc-by-4.0"}
    pipeline = Pipeline(tmp_path, "films", dataset, {"name": "small", "model": bert, "export": exported})

    def ask(request: dict[str, Any], settings: Settings) -> dict[str, Any]:
        """The worker's answer, without a process that loads transformers once more."""
        model, data_set = (ArtifactRef.model_validate(request[name]) for name in ("configuration", "dataset"))
        runner = StageRunner(store_of(settings), Runtime.probe(pipeline.settings, "cpu"), lambda *_: None)
        return library_configuration(model, request["seed"], data_set, runner)

    monkeypatch.setattr("distill_queue.scheduler.exports.folder.ask", ask)

    said = pipeline.export("small", "--hub")

    folder = tmp_path / "small"
    assert 'Next: python small/predict.py "a text"' in said
    assert str(tmp_path) not in (folder / "config.json").read_text()
    drive(BY_PREDICT, folder, "a dull film", absent="torch")
    given, of_file = given_in(folder), np.load(folder / "logits.npy")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        of_torch = model(torch.from_numpy(given["ids"]), torch.from_numpy(given["mask"]).long()).logits
    assert same(of_file, of_torch.numpy())
    assert model.config.id2label == {0: "bad", 1: "good"}
    specification = importlib.util.spec_from_file_location("load", folder / "load.py")
    assert specification
    assert specification.loader
    specification.loader.exec_module(program := importlib.util.module_from_spec(specification))
    with torch.inference_mode():
        tensors = {name: torch.from_numpy(each) for name, each in given.items()}
        assert same(of_file, program.load()(**tensors).numpy())
    card = hub.ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("cc-by-4.0", "transformers", "small")
    (result,) = card.data.eval_results
    assert (result.task_type, result.metric_type) == ("text-classification", "accuracy")
    assert 0 <= result.metric_value <= 1
    card.data.to_yaml()
