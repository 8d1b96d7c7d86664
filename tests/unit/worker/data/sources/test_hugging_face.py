"""Data sets of Hugging Face's library `datasets` in a folder, and on a hub."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.dataset import dataset_reader
from distill_queue.worker.data import records
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

#: In an order that sorting would change.
CLASSES = datasets.ClassLabel(names=["white", "black"])


def read(folder: Path, **options: Any) -> Arrays:
    (scratch := folder / "scratch").mkdir(exist_ok=True)
    runtime = Runtime(torch.device("cpu"), data=(folder / "data",), digests=folder / ".digests")
    spec = dataset_reader().validate_python({"name": "huggingface", "path": "set"} | options)
    return load(spec, Reading(runtime, scratch))


def texts(*labels: int | None, words: str = "word") -> datasets.Dataset:
    rows = {"text": [f"{words} {row} of class {label}" for row, label in enumerate(labels)], "label": list(labels)}
    return datasets.Dataset.from_dict(rows, datasets.Features(text=datasets.Value("string"), label=CLASSES))


def png(shade: int, size: int = 6) -> bytes:
    Image.new("L", (size, size), shade).save(file := io.BytesIO(), "PNG")
    return file.getvalue()


def images(*shades: int | bytes) -> datasets.Dataset:
    """Images of one shade each; a light one is white. Bytes stand for a file's content."""
    contents = [shade if isinstance(shade, bytes) else png(shade) for shade in shades]
    labels = [0 if isinstance(shade, int) and shade > 99 else 1 for shade in shades]
    rows = {"image": [{"bytes": content, "path": None} for content in contents], "label": labels}
    return datasets.Dataset.from_dict(rows, datasets.Features(image=datasets.Image(), label=CLASSES))


def saved(folder: Path, **splits: datasets.Dataset) -> Path:
    """Write splits as `save_to_disk` does."""
    datasets.DatasetDict(splits).save_to_disk(folder / "data" / "set")
    return folder


def copied(folder: Path, **splits: datasets.Dataset) -> Path:
    """Write splits as they lie on the hub, in Parquet files."""
    for name, rows in splits.items():
        (place := folder / "data" / "set" / "data").mkdir(parents=True, exist_ok=True)
        rows.to_parquet(place / f"{name}-00000-of-00001.parquet")
    return folder


@pytest.mark.parametrize("write", [saved, copied])
def test_texts_of_each_split_become_tokens_with_the_classes_in_their_own_order(tmp_path: Path, write: Any) -> None:
    splits = {"train": texts(0, 1, None, 1), "validation": texts(1), "test": texts(0, 1), "unsupervised": texts(0, 0)}
    write(tmp_path, **splits)

    arrays = read(tmp_path, text={"length": 8, "tokenizer": {"vocabulary": 300}})

    assert arrays.class_names == ("white", "black")
    assert arrays.train_targets.tolist() == [0, 1, -1, 1, 1, -1, -1]
    assert arrays.held_out is not None
    assert arrays.held_out.tolist() == [4]
    assert arrays.test_targets.tolist() == [0, 1]
    assert records.by_name(arrays.train_inputs)["ids"].shape == (7, 8)
    assert list(arrays.files) == ["tokenizer.json"]
    assert arrays.content is not None


@pytest.mark.parametrize("write", [saved, copied])
def test_images_of_each_split_become_samples(tmp_path: Path, write: Any) -> None:
    write(tmp_path, train=images(200, 20, 210), val=images(30), test=images(40, 220))

    arrays = read(tmp_path, image={"size": 4, "channels": 1})

    assert arrays.train_inputs.shape == (4, 1, 4, 4)
    assert arrays.train_inputs[:, 0, 0, 0].tolist() == [200, 20, 210, 30]
    assert arrays.train_targets.tolist() == [0, 1, 0, 1]
    assert arrays.test_inputs[:, 0, 0, 0].tolist() == [40, 220]


def test_without_a_test_split_a_fixed_fifth_of_each_class_is_kept_for_testing(tmp_path: Path) -> None:
    saved(tmp_path, train=images(*[200, 20] * 5), unlabelled=images(9))

    of_images = read(tmp_path, image={"size": 4})

    assert np.bincount(of_images.test_targets).tolist() == [1, 1]
    assert sorted(of_images.train_targets.tolist()) == [-1, *[0] * 4, *[1] * 4]


def test_a_single_split_of_texts_is_divided_and_its_unlabelled_ones_stay(tmp_path: Path) -> None:
    saved(tmp_path, train=texts(*[0, 1] * 5), unlabelled=texts(0, 0, 0))

    arrays = read(tmp_path, text={"length": 8, "tokenizer": {"vocabulary": 300}})

    assert np.bincount(arrays.test_targets).tolist() == [1, 1]
    assert sorted(arrays.train_targets.tolist()) == [-1, -1, -1, *[0] * 4, *[1] * 4]


def test_a_split_can_be_named_for_a_part(tmp_path: Path) -> None:
    saved(tmp_path, train=texts(0, 1), validation=texts(1, 0, 1), test=texts(None, None))

    arrays = read(tmp_path, splits={"test": "validation"}, text={"length": 8, "tokenizer": {"vocabulary": 300}})

    assert arrays.test_targets.tolist() == [1, 0, 1]
    assert arrays.held_out is None


def test_values_of_a_column_without_named_classes_are_classes_as_in_a_table(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"words": ["so", "so"] * 5, "kind": ["b", "a"] * 5})
    saved(tmp_path, train=rows, test=rows)

    arrays = read(tmp_path, target="kind", text={"column": "words", "length": 4, "tokenizer": {"vocabulary": 300}})

    assert arrays.class_names == ("a", "b")


def test_damaged_images_are_named_by_their_rows(tmp_path: Path) -> None:
    saved(tmp_path, train=images(200, 20, b"rubbish"), test=images(200, 20))

    with pytest.raises(InvalidSpec) as raised:
        read(tmp_path, image={"size": 4})
    arrays = read(tmp_path, image={"size": 4, "on_bad": "skip", "most_bad": 0.5})

    assert "set: 1 of 5 files cannot be read as images" in str(raised.value)
    assert "train[2] is no image that can be read" in str(raised.value)
    assert len(arrays.train_inputs) == 2


@pytest.mark.parametrize(
    ("splits", "options", "message"),
    [
        (
            {"train": texts(0, 1)},
            {"text": {"column": "words"}},
            "dataset.text.column: set, train has no column 'words'",
        ),
        ({"train": texts(0, 1)}, {"target": "lable"}, "dataset.target: set, train has no column 'lable'; did you mean"),
        ({"train": texts(0, 1)}, {"text": None, "image": {"column": "text", "size": 4}}, "'text' holds Value("),
        ({"train": texts(0, 1), "validation": texts(0)}, {}, "set has no split test (there: train, validation)"),
        ({"rest": texts(0, 1)}, {}, "set has no split train (there: rest): say which, as splits: {train: …}"),
        (
            {"train": texts(0)},
            {"splits": {"test": "tset"}},
            "dataset.splits.test: set has no split 'tset' (there: train)",
        ),
        ({"train": texts(0, 1), "test": texts(0, None)}, {}, "set, test[1]: has no 'label' (1 of 2 rows have none)"),
    ],
)
def test_what_cannot_be_read_is_said_in_the_words_of_the_spec(
    tmp_path: Path, splits: dict[str, datasets.Dataset], options: dict[str, Any], message: str
) -> None:
    saved(tmp_path, **splits)

    with pytest.raises(InvalidSpec) as raised:
        read(tmp_path, **{"text": {"length": 8}} | options)

    assert message in str(raised.value)


def test_files_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    copied(tmp_path, train=texts(0, 1), test=texts(0, 1))
    (tmp_path / "secret.csv").write_text("text,label\nx,0\n")
    configs = "configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: ../../secret.csv\n"
    (tmp_path / "data" / "set" / "README.md").write_text(f"---\n{configs}---\n")

    with pytest.raises(InvalidSpec, match="set: "):
        read(tmp_path, text={"length": 8})


def test_a_folder_without_data_is_told_from_one(tmp_path: Path) -> None:
    (tmp_path / "data" / "set").mkdir(parents=True)
    (tmp_path / "data" / "set" / "notes.bin").write_text("nothing")

    with pytest.raises(InvalidSpec, match="set: "):
        read(tmp_path, text={"length": 8})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "huggingface/imdb", "text": {}}, "revision"),
        ({"name": "huggingface/imdb", "text": {}, "revision": "main"}, "a revision is the hash of a commit, 40 digits"),
        ({"name": "huggingface/a b", "text": {}, "revision": "0" * 40}, "is no name of a data set on the hub"),
        ({"name": "huggingface/imdb", "revision": "0" * 40}, "has images or texts"),
        ({"name": "huggingface", "path": "set", "text": {}, "image": {"size": 4}}, "has images or texts"),
        (
            {"name": "huggingface", "path": "set", "text": {}, "splits": {"train": "a", "test": "a"}},
            "two parts are one",
        ),
    ],
)
def test_a_spec_names_a_commit_and_one_kind_of_samples(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataset_reader().validate_python(options)


@pytest.mark.parametrize("write", [saved, copied])
@pytest.mark.parametrize(
    ("splits", "options", "held_out"),
    [
        (("train", "test"), {}, False),
        (("train", "test"), {"validation": 0.1}, True),
        (("train", "test", "dev"), {}, True),
        (("train", "dev"), {"splits": {"test": "dev"}}, False),
        (("train", "test", "extra"), {"splits": {"validation": "extra"}}, True),
    ],
)
def test_a_client_tells_by_the_names_in_a_folder_whether_samples_are_held_out(
    tmp_path: Path, write: Any, splits: tuple[str, ...], options: dict[str, Any], held_out: bool
) -> None:
    write(tmp_path, **{name: texts(0, 1) for name in splits})

    spec = dataset_reader().validate_python({"name": "huggingface", "path": "set", "text": {}} | options)

    assert spec.holds_out_at(tmp_path / "data" / "set") is held_out
