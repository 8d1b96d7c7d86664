"""A given teacher's classes: read from what people have, and found by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.classes import classes_in, outputs_of
from distill_queue.shared.spec.pipeline import PipelineSpec

DIGITS = tuple(map(str, range(10)))
NAMES = (*DIGITS[::-1], *(f"letter {each}" for each in range(10)))


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.txt", "cat\n dog \n\nsea lion\n"),
        ("names.txt", "\ufeffcat\r\ndog\r\nsea lion"),
        ("names.json", json.dumps(["cat", "dog", "sea lion"])),
        ("names.json", json.dumps({"2": "sea lion", "0": "cat", "1": "dog"})),
        ("config.json", json.dumps({"id2label": {"0": "cat", "1": "dog", "2": "sea lion"}, "hidden": 3})),
    ],
)
def test_names_are_read_from_lines_and_from_json(tmp_path: Path, file: str, content: str) -> None:
    (tmp_path / file).write_text(content, encoding="utf-8", newline="")

    assert classes_in(tmp_path / file, file) == ("cat", "dog", "sea lion")


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("names.txt", "cat\n", "names.txt: has 1 names of classes: a line each is needed"),
        ("names.json", '{"0": "cat", "2": "dog"}', "names.json: has 0 names of classes"),
        ("names.json", '{"a": [1]}', "names.json: has 0 names of classes"),
        ("names.json", "[", "names.json: not valid JSON"),
        ("names.txt", "\xff\xfe", "names.txt: not UTF-8 text"),
    ],
)
def test_a_file_without_names_is_refused(tmp_path: Path, file: str, content: str, said: str) -> None:
    (tmp_path / file).write_bytes(content.encode("latin-1"))

    with pytest.raises(InvalidSpec) as raised:
        classes_in(tmp_path / file, file)

    assert str(raised.value).startswith(said)


def test_each_class_of_the_data_has_its_place_among_the_teachers() -> None:
    assert outputs_of(("dog", "cat"), ("cat", "cow", "dog")) == (2, 0)
    with pytest.raises(
        InvalidSpec, match=r"^the teacher's 2 classes lack 'dog', 'fox' of the data's 3; did you mean 'dogs'"
    ):
        outputs_of(("cat", "dog", "fox"), ("cat", "dogs"))
    with pytest.raises(InvalidSpec, match=r"^two of the teacher's classes are called 'cat'$"):
        outputs_of(("cat", "dog"), ("cat", "dog", "cat"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the weights of a teacher of twenty classes, as Hugging Face's libraries write it."""
    monkeypatch.chdir(tmp_path)
    Path("model").mkdir()
    weights = {"head.weight": np.zeros((20, 64), np.float32), "head.bias": np.zeros(20, np.float32)}
    save_file(weights, "model/model.safetensors")
    return tmp_path


def loaded(**teacher: Any) -> Any:
    model = {"name": "mlp", "hidden": []}
    spec: dict[str, Any] = {"name": "given", "dataset": {"name": "digits"}, "students": [{"name": "a", "model": model}]}
    return PipelineSpec.of(spec | {"teacher": {"model": model, "checkpoint": "model"} | teacher}).teacher


def test_a_folder_of_hugging_faces_brings_the_names_of_its_classes_along(folder: Path) -> None:
    Path("model/config.json").write_text(json.dumps({"id2label": dict(enumerate(NAMES))}))

    assert loaded().classes == NAMES
    assert loaded(classes=[*NAMES[::-1]]).classes == NAMES[::-1]


def test_names_that_a_library_made_up_are_none(folder: Path) -> None:
    Path("model/config.json").write_text(json.dumps({"id2label": {each: f"LABEL_{each}" for each in range(20)}}))

    with pytest.raises(
        InvalidSpec, match=r"model tells 20 classes apart, data set 'digits' has 10: name the teacher's own"
    ):
        loaded()


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ([*NAMES[:-1]], "teacher.checkpoint: model tells 20 classes apart, 'classes' has 19 names"),
        ("names.txt", "teacher.classes: no such file"),
        ([f"letter {each}" for each in range(20)], "teacher.classes: the teacher's 20 classes lack '0', '1', '2'"),
        (["a", 1], "teacher.classes[1]: "),
        ([], "teacher.classes: at least one is needed"),
    ],
)  # fmt: skip
def test_names_that_cannot_be_right_are_refused_when_a_spec_is_read(folder: Path, classes: Any, said: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^spec: ") as raised:
        loaded(classes=classes)

    assert str(raised.value).removeprefix("spec: ").startswith(said)


def test_a_teacher_that_is_trained_here_has_the_datas_classes() -> None:
    with pytest.raises(InvalidSpec, match=r"teacher.classes: .* 'classes' is for a checkpoint"):
        loaded(checkpoint=None, classes=["a", "b"])
