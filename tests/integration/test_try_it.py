"""Trying exported students in the report's page, in a browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.report.page import write_page
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import FolderStore
from distill_queue.worker.exports.onnx_file import File
from tests.integration.test_report import LOWEST_CONTRAST
from tests.unit.shared.report.conftest import run

TRAINING = {"epochs": 4, "batch_size": 32, "learning_rate": 0.02}
STUDENTS = {
    "mlp": {"model": {"name": "mlp", "hidden": [32]}, "training": TRAINING | {"learning_rate": 0.01}},
    "cnn": {"model": {"name": "cnn", "width": 16, "depth": 2}, "training": TRAINING},
    "resnet8": {"model": {"name": "resnet8"}, "training": TRAINING | {"epochs": 2, "learning_rate": 0.01}},
}
SAMPLES = 300


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FolderStore, Plan]:
    """The page of a pipeline whose students are exported, its store and its plan."""
    students = [{"name": name, "export": {"formats": ["onnx"]}} | student for name, student in STUDENTS.items()]
    spec = PipelineSpec.model_validate(
        {
            "name": "tried",
            "dataset": {"name": "digits"},
            "teacher": {"model": {"name": "mlp", "hidden": [64]}, "training": TRAINING | {"learning_rate": 0.01}},
            "students": students,
            "evaluation": {"control": False},
        }
    )
    folder = tmp_path_factory.mktemp("tried")
    status, _ = run(spec, folder / "store")
    store = FolderStore(folder / "store")
    write_page(status, store, folder / "report.html")
    return folder / "report.html", store, status.plan


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def page(
    pipeline: tuple[Path, FolderStore, Plan], browser: Browser, asked: list[str], said: list[str]
) -> Iterator[Page]:
    """The page in a browser of a phone's width, in the dark."""
    page = browser.new_page(viewport={"width": 400, "height": 900}, color_scheme="dark")
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(pipeline[0].as_uri())
    yield page
    page.close()


def stroke(page: Page, *places: tuple[float, float]) -> None:
    """Draw a line on the field, through places from its upper left corner, in shares of its sides."""
    box = page.locator("#try-it-canvas").bounding_box()
    assert box
    points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*points[0])
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()


def shares(page: Page, column: int) -> list[int]:
    cells = page.locator(f"#try-it-bars tr td:nth-of-type({column})").all_inner_texts()
    return [int(cell.replace("%", "")) for cell in cells]


def test_the_page_answers_what_the_exported_files_do(
    page: Page, pipeline: tuple[Path, FolderStore, Plan], said: list[str]
) -> None:
    _, store, plan = pipeline
    inputs: Any = np.load(store.open(plan.trunk[0].ref).path("test_inputs.npy"))[:SAMPLES]
    call = "([name, images]) => images.map(image => tryIt.logits(name, image))"

    for name in STUDENTS:
        file = store.open(plan.report.inputs[f"{name}/export/onnx"]).path("model.onnx")
        wanted = File(file).logits({"input": inputs})
        found = np.array(page.evaluate(call, [name, inputs.reshape(SAMPLES, -1).tolist()]))
        assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.995, name
        assert np.abs(found - wanted).max() <= 0.05 * np.ptp(wanted), name

    assert said == []


def test_a_drawing_gets_the_answers_of_student_and_teacher_and_nothing_is_asked_for(
    page: Page, pipeline: tuple[Path, FolderStore, Plan], asked: list[str], said: list[str]
) -> None:
    expect(page.locator("#try-it-said")).to_have_text("Nothing is drawn.")

    page.locator("#try-it-canvas").scroll_into_view_if_needed()
    stroke(page, (0.3, 0.2), (0.7, 0.2), (0.5, 0.8))
    expect(page.locator("#try-it-bars tr")).to_have_count(10)
    expect(page.locator("#try-it-said")).to_contain_text("teacher: ")
    drawn = page.evaluate("[...tryIt.pixelsOfCanvas()]")
    page.locator("#try-it-student").select_option("mlp")
    expect(page.locator("#try-it-head")).to_contain_text("mlp")

    assert max(drawn) == 16, "white is what the data have"
    assert np.reshape(drawn, (8, 8))[0].max() > 8, "a drawing is as tall as the data's digits"
    for column in (1, 2):
        assert abs(sum(shares(page, column)) - 100) <= 5
    assert page.evaluate(LOWEST_CONTRAST) >= 4.5
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#try-it-clear").click()
    expect(page.locator("#try-it-bars tr")).to_have_count(0)
    assert {url for url in asked if not url.startswith("data:")} == {pipeline[0].as_uri()}
    assert said == []


def test_a_test_sample_is_answered_as_it_is_stored_and_told_with_its_label(page: Page) -> None:
    page.locator("#try-it-sample").click()

    expect(page.locator("#try-it-said")).to_contain_text("label: ")
    assert max(shares(page, 1)) > 20


def test_keys_draw_and_a_file_is_opened(page: Page, tmp_path: Path, said: list[str]) -> None:
    from PIL import Image

    page.locator("#try-it-canvas").focus()
    for key in ["ArrowUp"] * 3 + ["Shift+ArrowDown"] * 6:
        page.keyboard.press(key)
    expect(page.locator("#try-it-pen")).to_be_visible()
    expect(page.locator("#try-it-bars tr")).to_have_count(10)

    paper = np.full((60, 40), 250, np.uint8)
    paper[10:50, 18:22] = 20
    Image.fromarray(paper).save(tmp_path / "one.png")
    page.locator("#try-it-clear").click()
    page.locator("#try-it-file").set_input_files(tmp_path / "one.png")
    expect(page.locator("#try-it-bars tr")).to_have_count(10)
    pixels = np.reshape(page.evaluate("[...tryIt.pixelsOfCanvas()]"), (8, 8))
    assert pixels[:, :2].max() <= 2, "paper becomes the data's black"
    assert pixels[:, 3:5].max() >= 12

    small = np.zeros((8, 8), np.uint8)
    small[1:3, 5] = 255
    Image.fromarray(small).save(tmp_path / "small.png")
    page.locator("#try-it-clear").click()
    page.locator("#try-it-file").set_input_files(tmp_path / "small.png")
    expect(page.locator("#try-it-bars tr")).to_have_count(10)
    seen = "document.getElementById('try-it-seen').getContext('2d').getImageData(0, 0, 8, 8).data"
    assert (np.reshape(page.evaluate(f"[...{seen}]"), (8, 8, 4))[..., 0] == small).all(), "an image of the data's size"

    (tmp_path / "none.png").write_text("no image")
    page.locator("#try-it-file").set_input_files(tmp_path / "none.png")
    expect(page.locator("#try-it-said")).to_have_text("This file is no image that the browser can read.")
    assert said == []


def test_nothing_is_to_be_tried_on_paper_and_no_other_script_runs(page: Page) -> None:
    expect(page.locator("#try-it-parts")).to_be_visible()

    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.found = 1'}))"
    )
    page.emulate_media(media="print")

    expect(page.locator("#try-it-parts")).to_be_hidden()
    expect(page.get_by_role("heading", name="Try it")).to_be_hidden()
    assert page.evaluate("window.found") is None
