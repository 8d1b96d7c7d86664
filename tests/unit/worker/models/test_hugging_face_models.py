"""Models of transformers: built from a folder, their head fitted to the data, and refused where they do not fit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from distill_queue.shared.errors import InvalidSpec, StageFailed
from distill_queue.shared.results.records import DatasetRecord, InputRecord
from distill_queue.shared.spec.models.hugging_face import HuggingFaceModelSpec
from distill_queue.worker import models
from distill_queue.worker.machine.runtime import Runtime

transformers = pytest.importorskip("transformers")

NAMES = ("no", "yes", "maybe")


def texts(length: int = 12, largest: int = 80, padding: int = 0, names: tuple[str, ...] = NAMES) -> DatasetRecord:
    ids = InputRecord(kind="tokens", shape=(length,), largest=largest, padding=padding)
    return _data((), names, {"ids": ids, "mask": InputRecord(kind="flags", shape=(length,))})


def images(*shape: int) -> DatasetRecord:
    return _data(shape, NAMES, {})


def _data(shape: tuple[int, ...], names: tuple[str, ...], inputs: dict[str, InputRecord]) -> DatasetRecord:
    return DatasetRecord(
        shape=shape,
        class_names=names,
        train_samples=1,
        labelled_samples=1,
        validation_samples=0,
        test_samples=1,
        mean=(0.0,) * len(shape[:1]),
        std=(1.0,) * len(shape[:1]),
        inputs=inputs,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small BERT without a head, and one with a head that tells the classes apart."""
    place = tmp_path_factory.mktemp("models")
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(place / "body")
    config.id2label = dict(enumerate(NAMES))
    transformers.BertForSequenceClassification(config).save_pretrained(place / "whole")
    return place


def runtime(folder: Path, tmp_path: Path) -> Runtime:
    return Runtime(torch.device("cpu"), data=(folder,), digests=tmp_path / "digests.sqlite")


def spec(name: str, **values: Any) -> HuggingFaceModelSpec:
    return HuggingFaceModelSpec(name=f"huggingface/{name}", **values)


def test_a_body_starts_from_its_weights_and_gets_a_head_from_the_seed(folder: Path, tmp_path: Path) -> None:
    here, given = runtime(folder, tmp_path), transformers.BertModel.from_pretrained(folder / "body")

    one, same, other = (models.build(spec("body"), texts(), here, seed) for seed in (1, 1, 2))

    ids, mask = torch.randint(0, 80, (2, 12)), torch.ones(2, 12, dtype=torch.bool)
    assert one.eval()(ids=ids, mask=mask).shape == (2, 3)
    assert all(torch.equal(one.model.bert.state_dict()[name], each) for name, each in given.state_dict().items())
    assert torch.equal(one.model.classifier.weight, same.model.classifier.weight)
    assert not torch.equal(one.model.classifier.weight, other.model.classifier.weight)
    assert models.parameter_names(one)[-1] == "classifier.bias"


def test_a_head_is_taken_where_its_classes_are_the_datas_by_name_and_in_order(folder: Path, tmp_path: Path) -> None:
    here = runtime(folder, tmp_path)
    given = transformers.BertForSequenceClassification.from_pretrained(folder / "whole").classifier.weight

    same = models.build(spec("whole"), texts(), here, 1)
    turned = models.build(spec("whole"), texts(names=NAMES[::-1]), here, 1)

    assert torch.equal(same.model.classifier.weight, given)
    assert not torch.equal(turned.model.classifier.weight, given)


def test_the_mask_hides_what_fills_a_text_up(folder: Path, tmp_path: Path) -> None:
    model = models.build(spec("body"), texts(), runtime(folder, tmp_path), 1).eval()
    ids, mask = torch.randint(1, 80, (2, 12)), torch.arange(12).expand(2, -1) < 6

    with torch.no_grad():
        logits = model(ids=ids, mask=mask)
        others = model(ids=torch.where(mask, ids, 3), mask=mask)

    assert torch.allclose(logits, others, atol=1e-6)


def test_a_model_without_its_weights_is_drawn_from_the_seed(folder: Path, tmp_path: Path) -> None:
    new = spec("body", pretrained=False, options={"num_hidden_layers": 1})
    here = runtime(folder, tmp_path)

    one, same, other = (models.build(new, texts(padding=5), here, seed) for seed in (1, 1, 2))

    assert all(map(torch.equal, one.state_dict().values(), same.state_dict().values()))
    assert not all(map(torch.equal, one.parameters(), other.parameters()))
    assert len(one.model.bert.encoder.layer) == 1
    assert one.model.config.pad_token_id == 5


def test_new_models_take_images_of_any_size(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    config.save_pretrained(tmp_path / "vit")

    model = models.build(spec("vit", pretrained=False), images(1, 16, 24), runtime(tmp_path, tmp_path), 1)

    assert model.eval()(torch.zeros(2, 1, 16, 24)).shape == (2, 3)


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        (spec("nowhere"), texts(), r"^huggingface/nowhere: no such folder is in .*; a model of the hub has a revision"),
        (spec("body"), texts(length=20), r"takes up to 16 tokens, and samples have 20: dataset\.length"),
        (spec("body"), texts(largest=100), r"knows the tokens 0 to 99, and samples have number 100: .*own tokenizer"),
        (spec("body"), texts(padding=3), r"fills texts up with token 0, and the data's tokenizer with 3"),
        (spec("body", options={"layers": 1}), texts(), r"options: its config\.json knows no 'layers'"),
        (spec("body"), images(3, 8, 8), r"has no classifier of images of the kind 'bert'"),
        (spec("body", options={"num_hidden_layers": 3}), texts(), r"its weights lack bert\.encoder\.layer\.2\."),
        (spec("body", options={"hidden_size": 20}), texts(), r"its weights lack .* or have other shapes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    folder: Path, tmp_path: Path, model: HuggingFaceModelSpec, data: DatasetRecord, words: str
) -> None:
    with pytest.raises(InvalidSpec, match=words) as refusal:
        models.build(model, data, runtime(folder, tmp_path), 1)

    assert "\n" not in str(refusal.value)


def test_a_folder_that_has_changed_since_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match=r"is not what was submitted: .*: submit the pipeline again"):
        models.build(spec("body", content="0" * 64), texts(), runtime(folder, tmp_path))


def test_code_in_a_folder_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    ran = tmp_path / "ran"
    (tmp_path / "own" / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    (tmp_path / "own" / "config.json").write_text(
        '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForSequenceClassification": "own.M"}}'
    )

    with pytest.raises(InvalidSpec, match="huggingface/own"):
        models.build(spec("own"), texts(), runtime(tmp_path, tmp_path), 1)

    assert not ran.exists()


def test_weights_in_a_pickle_are_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "config.json").write_bytes((folder / "body" / "config.json").read_bytes())
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")

    with pytest.raises(InvalidSpec, match=r"huggingface/pickled: .*safetensors"):
        models.build(spec("pickled"), texts(), runtime(tmp_path, tmp_path), 1)


def test_a_worker_without_transformers_says_which_extra_brings_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)

    with pytest.raises(InvalidSpec, match=r"need transformers, .* pip install 'distill-queue\[huggingface\]'"):
        models.build(spec("body"), texts(), runtime(folder, tmp_path))
