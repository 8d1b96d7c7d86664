"""Models of transformers and timm in whole pipelines: trained, given as a teacher with classes of their own, scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from distill_queue.scheduler.client.data_on_disk import load_spec
from distill_queue.shared.errors import HandedBack, InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import weights_ref
from distill_queue.shared.results.records import EvaluationRecord, TrainingRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.given_files import weights_of
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.shared.store.manifest import Provenance
from distill_queue.worker.machine.runtime import Runtime
from distill_queue.worker.stages.runner import StageRunner

transformers = pytest.importorskip("transformers")
SHORT = {"epochs": 2, "batch_size": 16}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with texts of two classes, and a small BERT with its tokenizer, which tells the classes apart."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film", "fine", "dull", *map(str, range(10))]
    rows = [
        f"a {word} film {number % 10},{label}"
        for label, word in (("good", "fine"), ("bad", "dull"))
        for number in range(30)
    ]
    (tmp_path / "reviews.csv").write_text("\n".join(["text,label", *rows]))
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=8, id2label={0: "good", 1: "other", 2: "bad"},
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.BertForSequenceClassification(config)
    model.save_pretrained(tmp_path / "bert")
    tokenizer = transformers.BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    tokenizer.save_pretrained(tmp_path / "bert")
    return tmp_path


def spec(folder: Path, teacher: dict[str, Any], student: dict[str, Any]) -> Path:
    """A spec's file."""
    values = {
        "name": "films",
        "dataset": {"name": "text", "path": "reviews.csv", "tokenizer": "bert", "length": 8},
        "teacher": teacher,
        "students": [{"name": "small", "model": student, "training": SHORT}],
    }
    (path := folder / "films.yaml").write_text(yaml.safe_dump(values))
    return path


def run(path: Path, store: FolderStore) -> dict[str, Artifact]:
    """Do a pipeline's stages; each stage's artifact by its title, without a given file's name."""
    folder = path.parent
    loaded = load_spec(path, Settings(cache=folder / "cache"))
    for teacher in loaded.all_teachers:
        if teacher.checkpoint is not None:
            weights = weights_of(teacher, loaded.dataset)
            with store.draft(ref := weights_ref(weights)) as draft:
                (draft / "model.safetensors").write_bytes(b"".join(weights.pieces()))
                here = Provenance(host="", device="", versions={})
                store.commit(ref, draft, stage=None, record=None, provenance=here, seconds=0.0)
    runtime = Runtime(torch.device("cpu"), data=(folder,), digests=folder / "digests.sqlite")
    return {
        stage.title.partition(" from ")[0]: StageRunner(store, runtime, lambda *_: None).run(stage)
        for stage in Plan.of(loaded).stages
    }


def test_a_frozen_bert_teaches_a_smaller_one_to_the_same_bytes_each_time(folder: Path) -> None:
    teacher = {
        "model": {"name": "huggingface/bert"},
        "training": SHORT | {"freeze": ["bert.embeddings.*", "*.layer.0.*"]},
    }
    small = {"name": "huggingface/bert", "pretrained": False, "options": {"num_hidden_layers": 1}}
    path = spec(folder, teacher, small)

    once, again = (run(path, FolderStore(folder / name)) for name in ("one", "two"))

    before = load_file(folder / "bert" / "model.safetensors")
    trained = load_file(once["train teacher"].path("model.safetensors"))
    changed = {name for name, tensor in before.items() if not torch.equal(trained.get(f"model.{name}", tensor), tensor)}
    assert {name.split(".")[3] for name in changed if ".layer." in name} == {"1"}
    assert not any("embeddings" in name for name in changed)
    for title in [title for title, made in once.items() if isinstance(made.record, TrainingRecord)]:
        assert once[title].path("model.safetensors").read_bytes() == again[title].path("model.safetensors").read_bytes()
    score = next(each.record for each in once.values() if isinstance(each.record, EvaluationRecord))
    assert score.multiply_adds > 8 * 16 * 16


class Steps:
    """Counts a training's steps, and leaves it after some."""

    def __init__(self, leave_after: int = -1) -> None:
        self.taken, self._leave_after = 0, leave_after

    def __call__(self, progress: str, *_: object) -> None:
        self.taken += " · step " in progress
        if self.taken == self._leave_after:
            raise HandedBack(progress)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "huggingface/bert", "options": {"hidden_dropout_prob": 0.2}},
        {"name": "timm/test_resnet", "options": {"output_stride": 8}},
        {"name": "timm/test_vit", "options": {"patch_size": 2, "drop_path_rate": 0.2}},
    ],
    ids=lambda model: model["name"],
)
def test_a_training_that_was_left_goes_on_to_the_bytes_of_one_at_once(folder: Path, model: dict[str, Any]) -> None:
    path = spec(folder, {"model": model, "training": {"epochs": 3, "batch_size": 16}}, {"name": "mlp", "hidden": [8]})
    if model["name"].startswith("timm/"):
        pytest.importorskip("timm")
        values = yaml.safe_load(path.read_text()) | {"dataset": {"name": "digits"}}
        values["teacher"]["training"]["batch_size"] = 256
        path.write_text(yaml.safe_dump(values))
    data, teacher = Plan.of(load_spec(path, Settings(cache=folder / "cache"))).trunk[:2]
    runtime = Runtime(torch.device("cpu"), data=(folder,))
    stores = [FolderStore(folder / name) for name in ("once", "left")]
    for store in stores:
        StageRunner(store, runtime, lambda *_: None).run(data)

    once = StageRunner(stores[0], runtime, all_steps := Steps()).run(teacher)
    with pytest.raises(HandedBack):
        StageRunner(stores[1], runtime, Steps(leave_after=5)).run(teacher)
    left = StageRunner(stores[1], runtime, rest := Steps()).run(teacher)

    assert rest.taken == all_steps.taken - 5 > 0
    assert left.path("model.safetensors").read_bytes() == once.path("model.safetensors").read_bytes()


def test_a_folder_teaches_as_it_is_by_the_names_of_its_own_classes(folder: Path) -> None:
    path = spec(
        folder,
        {"model": {"name": "huggingface/bert"}, "checkpoint": "bert"},
        {"name": "huggingface/bert", "pretrained": False, "options": {"num_hidden_layers": 1}},
    )

    done = run(path, FolderStore(folder / "store"))

    loaded = load_file(done["load teacher"].path("model.safetensors"))
    assert loaded["model.classifier.weight"].shape == (3, 16)
    assert torch.equal(
        loaded["model.classifier.weight"], load_file(folder / "bert" / "model.safetensors")["classifier.weight"]
    )
    assert isinstance(done["evaluate teacher"].record, EvaluationRecord)


def test_a_folders_content_is_part_of_the_key_and_a_hub_name_needs_a_commit(folder: Path) -> None:
    path = spec(folder, {"model": {"name": "huggingface/bert"}, "training": SHORT}, {"name": "huggingface/bert"})
    settings = Settings(cache=folder / "cache")
    key = Plan.of(load_spec(path, settings)).report.key
    weights = load_file(folder / "bert" / "model.safetensors")

    save_file(weights | {"classifier.bias": weights["classifier.bias"] + 1}, folder / "bert" / "model.safetensors")
    other = Plan.of(load_spec(path, settings)).report.key
    path.write_text(path.read_text().replace("huggingface/bert", "huggingface/owner/bert"))

    assert key != other
    with pytest.raises(
        InvalidSpec, match="huggingface/owner/bert: there is no such folder here, and a model of the hub"
    ):
        load_spec(path, settings)
