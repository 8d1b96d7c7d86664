"""Texts in a table or folder as a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.ingredients import ingredients
from distill_queue.shared.spec.dataset import dataset_reader
from distill_queue.shared.spec.sources.text import TextSpec
from distill_queue.worker.data import records
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.load import load
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine.runtime import Runtime

GOOD, BAD = "a fine and moving film, café included", "dull, long and badly told"
#: Twenty reviews of two kinds.
REVIEWS = "text,label\n" + "".join(f'"{(GOOD, BAD)[row % 2]} {row}",{("good", "bad")[row % 2]}\n' for row in range(20))


def spec_of(path: str = "reviews.csv", **options: Any) -> TextSpec:
    spec: TextSpec = dataset_reader().validate_python(
        {"name": "text", "path": path, "tokenizer": {"train": "bpe", "vocabulary": 300}} | options
    )
    return spec


def read(folder: Path, path: str = "reviews.csv", **options: Any) -> Arrays:
    reading = Reading(Runtime(torch.device("cpu"), data=(folder,), digests=folder / ".digests"))
    return load(spec_of(path, **options), reading)


def write(folder: Path, text: str | bytes = REVIEWS, path: str = "reviews.csv") -> None:
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


def texts_of(arrays: Arrays, inputs: np.ndarray) -> list[str]:
    """What the kept tokenizer makes of a set's tokens."""
    tokenizer = tokenizers.Tokenizer.from_str(arrays.files["tokenizer.json"].decode())
    parts = records.by_name(inputs)
    return [tokenizer.decode(ids[mask].tolist()) for ids, mask in zip(parts["ids"], parts["mask"], strict=True)]


def test_texts_become_tokens_and_a_mask_and_can_be_read_back(tmp_path: Path) -> None:
    write(tmp_path)

    arrays = read(tmp_path, length=64)

    inputs = records.by_name(arrays.train_inputs)
    assert {name: (each.dtype, each.shape) for name, each in inputs.items()} == {
        "ids": (np.int16, (16, 64)),
        "mask": (np.bool_, (16, 64)),
    }
    assert (inputs["ids"][~inputs["mask"]] == 0).all()
    assert arrays.class_names == ("bad", "good")
    for text, target in zip(texts_of(arrays, arrays.train_inputs), arrays.train_targets, strict=True):
        assert text.startswith((BAD, GOOD)[target])
    assert not arrays.warnings


def test_what_a_folder_of_texts_holds_beside_them_is_told(tmp_path: Path) -> None:
    for number in range(6):
        write(tmp_path, f"{GOOD} {number}", f"r/train/good/{number}.txt")
        write(tmp_path, f"{BAD} {number}", f"r/train/bad/{number}.txt")
    write(tmp_path, "no text", "r/train/good/deeper/7.txt")
    write(tmp_path, "no text", "r/notes.md")
    (tmp_path / "r" / "train" / "empty").mkdir()

    texts = {warning.kind: warning.text for warning in read(tmp_path, "r").warnings}

    assert texts["unused_classes"] == "1 of 3 folders of classes have no text: train/empty"
    assert texts["unread_files"].startswith("2 files are not read, as they are not <class>/*.txt: 1 .")


def test_a_tokenizer_that_names_no_token_for_unknown_words_is_refused(tmp_path: Path) -> None:
    write(tmp_path)
    model = tokenizers.models.WordLevel({"[PAD]": 0, "film": 1})
    tokenizers.Tokenizer(model).save(str(tmp_path / "words.json"))

    with pytest.raises(
        InvalidSpec, match=r"^dataset.tokenizer: makes no tokens of the texts: WordLevel error: Missing"
    ):
        read(tmp_path, tokenizer="words.json")


def test_texts_that_a_tokenizer_hardly_knows_are_told(tmp_path: Path) -> None:
    write(tmp_path)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[PAD]": 0, "[UNK]": 1, "film": 2}, "[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))

    texts = {warning.kind: warning.text for warning in read(tmp_path, tokenizer="words.json").warnings}

    assert texts["unknown_tokens"].startswith("150 of 160 tokens (93.8%) are the one for what the tokenizer does not")


def test_the_kept_tokenizer_gives_the_same_tokens(tmp_path: Path) -> None:
    write(tmp_path)

    arrays = read(tmp_path, length=8)

    tokenizer = tokenizers.Tokenizer.from_str(arrays.files["tokenizer.json"].decode())
    ids = {tuple(tokenizer.encode(f"{(GOOD, BAD)[row % 2]} {row}").ids) for row in range(20)}
    both = np.concatenate([records.by_name(each)["ids"] for each in (arrays.train_inputs, arrays.test_inputs)])
    assert {tuple(row) for row in both.tolist()} == ids


def test_training_a_tokenizer_gives_the_same_bytes_with_any_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)

    files = []
    for parallel in ("true", "false", "true"):
        monkeypatch.setenv("TOKENIZERS_PARALLELISM", parallel)
        files.append(read(tmp_path).files["tokenizer.json"])

    assert len(set(files)) == 1


def test_what_is_cut_off_is_counted(tmp_path: Path) -> None:
    write(tmp_path, "text,label\n" + "".join(f"{'a b c d e f' if row < 4 else 'a'},{row % 2}\n" for row in range(20)))

    arrays = read(tmp_path, length=2, tokenizer={"train": "bpe", "vocabulary": 300})

    (warning,) = [each for each in arrays.warnings if each.kind == "truncated_texts"]
    assert warning.text.startswith("4 of 20 texts (20.0%) have more than 2 tokens: ")


def test_a_folder_of_texts_has_a_folder_for_each_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, text in (("pos", GOOD), ("neg", BAD)):
            for number in range(3):
                write(tmp_path, f"{text} {number}", f"imdb/{part}/{label}/{number}.txt")
    write(tmp_path, "neither fine nor dull", "imdb/train/unsup/0.txt")

    arrays = read(tmp_path, "imdb", length=64)

    assert arrays.class_names == ("neg", "pos")
    assert arrays.train_targets.tolist() == [0, 0, 0, 1, 1, 1, -1]
    assert texts_of(arrays, arrays.train_inputs)[-1] == "neither fine nor dull"


def test_a_given_tokenizer_is_content_and_where_it_lies_is_not(tmp_path: Path) -> None:
    write(tmp_path)
    trained = read(tmp_path).files["tokenizer.json"]
    for name in ("a/tokenizer.json", "b.json"):
        write(tmp_path, trained, name)
    memory = tmp_path / ".digests"

    found = [spec_of(tokenizer=name).find_content([tmp_path], memory) for name in ("a", "a/tokenizer.json", "b.json")]
    write(tmp_path, trained + b"\n", "b.json")
    changed = spec_of(tokenizer="b.json").find_content([tmp_path], memory)
    keys = [ingredients(spec_of(tokenizer=name, content=found[1])) for name in ("a/tokenizer.json", "b.json")]

    assert found[1] == found[2]
    assert len({spec_of().find_content([tmp_path], memory), found[1], changed}) == 3
    assert keys[0] == keys[1]
    assert spec_of(tokenizer="none.json").find_content([tmp_path], memory) is None
    np.testing.assert_array_equal(read(tmp_path).train_inputs, read(tmp_path, tokenizer="a").train_inputs)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (REVIEWS.encode("latin-1"), {}, r"reviews.csv, line 2: not utf-8 \(byte .*: e9 20 69 6e\).*encoding: latin-1"),
        (REVIEWS, {"text": "txt"}, "dataset.text: reviews.csv has no column 'txt'; did you mean 'text'"),
        (REVIEWS, {"target": "lable"}, "dataset.target: reviews.csv has no column 'lable'; did you mean 'label'"),
        (REVIEWS + ",good\n", {}, "reviews.csv, line 22: 'text' is empty"),
        (REVIEWS, {"tokenizer": "reviews.csv"}, "dataset.tokenizer: reviews.csv: no tokenizer of the library"),
        (REVIEWS, {"tokenizer": "gone"}, "dataset.tokenizer: gone is not in"),
    ],
)
def test_bad_texts_have_one_message(tmp_path: Path, text: str | bytes, options: dict[str, Any], message: str) -> None:
    write(tmp_path, text)

    with pytest.raises(InvalidSpec, match=message):
        read(tmp_path, **options)
