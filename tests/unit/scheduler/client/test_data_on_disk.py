"""Data at the path of a spec, as the client sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.scheduler.client.data_on_disk import holds_out, load_data, load_spec
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec

PHOTOS = {"name": "image_folder", "path": "data", "size": 4}
TABLE = {"name": "table", "path": "data", "target": "kind"}
TEXTS = {"name": "text", "path": "data"}
BEST = {"model": {"name": "mlp", "hidden": [8]}, "training": {"keep": "best"}}
GRID = {"name": "small", "model": {"name": "mlp", "hidden": [8]}, "distillation": {"temperature": {"grid": [1, 4]}}}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings without folders of data."""
    return Settings(cache=tmp_path / "cache")


def put(folder: Path, *names: str) -> None:
    for name in names:
        (file := folder / name).parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


@pytest.mark.parametrize(
    ("dataset", "names", "way"),
    [
        (PHOTOS, ["train/cat/1.jpg", "test/cat/2.jpg"], "add a folder validation"),
        (PHOTOS, ["cat/validation.jpg"], "add a folder validation"),
        (TABLE, ["train.csv", "test.csv"], "add a file or folder validation"),
        (TEXTS, ["train/good/1.txt", "test/good/2.txt"], "add a file or folder validation"),
    ],
)
@pytest.mark.parametrize(
    ("changes", "choosing"),
    [
        ({"teacher": BEST}, "teacher.training chooses by held-out samples"),
        ({"students": [GRID]}, "'small' has a grid, whose points are compared on held-out samples"),
    ],
)
def test_what_chooses_by_held_out_samples_is_refused_where_the_folder_has_none(
    write_spec: Callable[..., Path],
    settings: Settings,
    dataset: dict[str, Any],
    names: list[str],
    way: str,
    changes: dict[str, Any],
    choosing: str,
) -> None:
    spec = write_spec(dataset=dataset, **changes)
    put(spec.parent / "data", *names)

    with pytest.raises(InvalidSpec) as error:
        load_spec(spec, settings)

    assert f"dataset.validation: {choosing}, and data has none: set dataset.validation" in str(error.value)
    assert str(error.value).endswith(way)


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        (PHOTOS, "Val/cat/1.jpg"),
        (PHOTOS | {"validation": 0.1}, "train/cat/3.jpg"),
        (TABLE, "validation.csv"),
        (TEXTS, "validation/good/1.txt"),
    ],
)
def test_a_folder_of_held_out_samples_or_a_share_of_them_is_enough(
    write_spec: Callable[..., Path], settings: Settings, dataset: dict[str, Any], name: str
) -> None:
    spec = write_spec(dataset=dataset, teacher=BEST, students=[GRID])
    put(spec.parent / "data", "train/cat/1.jpg", "train.csv", "train/good/1.txt", name)

    assert load_spec(spec, settings).dataset.model_dump()["content"]


def test_what_only_workers_see_is_left_to_them(write_spec: Callable[..., Path], settings: Settings) -> None:
    spec = write_spec(dataset=PHOTOS, teacher=BEST)

    assert "content" not in load_spec(spec, settings).dataset.model_dump()


@pytest.mark.parametrize(
    ("dataset", "names", "expected"),
    [
        (PHOTOS, ["val/cat/1.jpg"], True),
        (PHOTOS, ["train/cat/1.jpg"], False),
        (PHOTOS, [], None),
        ({"name": "table", "path": "rows.csv", "target": "kind"}, [], False),
        ({"name": "huggingface/a/b", "revision": "0" * 40, "image": {"size": 8}}, [], None),
        ({"name": "digits"}, [], False),
    ],
)
def test_whether_data_hold_out_samples_is_told_where_they_are_seen(
    write_spec: Callable[..., Path],
    settings: Settings,
    dataset: dict[str, Any],
    names: list[str],
    expected: bool | None,
) -> None:
    spec = write_spec(dataset=dataset)
    put(spec.parent / "data", *names)

    assert holds_out(PipelineSpec.load(spec), settings, spec) is expected


def test_data_are_looked_for_beside_the_spec_and_not_in_the_working_folder(
    write_spec: Callable[..., Path], settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = write_spec(dataset=PHOTOS)
    put(tmp_path / "elsewhere" / "data", "cat/1.jpg")
    monkeypatch.chdir(tmp_path / "elsewhere")

    found = load_spec(spec, settings), load_data(spec, settings)[0]

    assert "content" not in found[0].dataset.model_dump()
    assert "content" not in found[1].model_dump()
