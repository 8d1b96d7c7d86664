"""Figures: what came out of a section, as the JSON in `docs/results` holds it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Self

from pydantic import Field

from distill_queue.shared.frozen import Frozen
from distill_queue.shared.ledger.results import PipelineResults
from distill_queue.shared.results.scores import Estimate, StudentScore
from distill_queue.shared.spec.file import SpecFile

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results"


class Student(Frozen):
    """A student and its control, seed by seed; accuracies and gains are shares of 1."""

    name: str
    verdict: str
    #: Empty where only their mean was noted, like those of the controls.
    accuracies: tuple[float, ...] = ()
    accuracy: Estimate
    control_accuracies: tuple[float, ...] = ()
    control_accuracy: Estimate | None = None
    gain: Estimate | None = None
    gap_closed: Estimate | None = None
    #: 0 where they were not noted.
    parameters: int = 0
    #: Mean seconds of a training.
    seconds: float | None = None
    control_seconds: float | None = None
    #: What the section counts beside, seed by seed.
    counts: dict[str, tuple[float, ...]] = Field(default={})

    @classmethod
    def of(cls, score: StudentScore) -> Self:
        """The figures of a student's scores."""
        controls = [run.control for run in score.runs if run.control]
        return cls(
            name=score.name,
            verdict=score.verdict,
            accuracies=tuple(run.student.accuracy for run in score.runs),
            accuracy=score.accuracy,
            control_accuracies=tuple(control.accuracy for control in controls),
            control_accuracy=score.control_accuracy,
            gain=score.gain,
            gap_closed=score.gap_closed,
            parameters=score.student.parameters,
            seconds=_mean([run.student.training_seconds for run in score.runs]),
            control_seconds=_mean([control.training_seconds for control in controls]),
        )


class Outcome(Frozen):
    """What came out of a spec, or of a program that stands beside it."""

    #: What tables call it, as the spec's file without its ending.
    name: str
    #: The spec's path in this repository, and the key of its plan's report: another key means another spec.
    spec: str = ""
    key: str = ""
    #: Of what was measured before keys were noted: the SHA-256 of the spec's values, as `hash_of` computes it.
    spec_hash: str = ""
    command: str
    date: str
    machine: str
    versions: dict[str, str] = Field(default={})
    #: Of the whole, from the command's start to its end; None where it was not noted.
    minutes: float | None = None
    #: The teacher's accuracy on test data, and those of several teachers whose outputs are averaged.
    teacher: float | None = None
    teachers: tuple[float, ...] = ()
    teacher_seconds: float | None = None
    test_samples: int
    students: tuple[Student, ...] = ()
    #: Figures of another program, seed by seed.
    counts: dict[str, tuple[float, ...]] = Field(default={})

    def student(self, name: str) -> Student:
        """The student of a name."""
        return next(student for student in self.students if student.name == name)


class SectionFigures(Frozen):
    """All outcomes of a section."""

    section: str
    outcomes: tuple[Outcome, ...] = ()

    @classmethod
    def load(cls, section: str) -> Self:
        """What is committed of a section; no outcomes where nothing is."""
        path = path_of(section)
        return cls.read(path.read_bytes(), path.name) if path.is_file() else cls(section=section)

    def save(self) -> None:
        """Write the JSON."""
        FOLDER.mkdir(exist_ok=True)
        text = self.model_dump_json(indent=1, exclude_defaults=True)
        path_of(self.section).write_text(text + "\n", "utf-8")

    def having(self, outcome: Outcome) -> Self:
        """The same with an outcome, which takes the place of one of its name."""
        names = [each.name for each in self.outcomes]
        others = [each for each in self.outcomes if each.name != outcome.name]
        others.insert(names.index(outcome.name) if outcome.name in names else len(names), outcome)
        return self.model_copy(update={"outcomes": tuple(others)})

    def find(self, name: str) -> Outcome | None:
        """The outcome of a name, if there is one."""
        return next((each for each in self.outcomes if each.name == name), None)

    @property
    def minutes(self) -> float:
        """Of all outcomes that have noted them."""
        return sum(each.minutes or 0.0 for each in self.outcomes)


def hash_of(spec: Path) -> str:
    """The SHA-256 of a spec's values, which its comments do not change."""
    return hashlib.sha256(json.dumps(SpecFile.read(spec).data, sort_keys=True).encode()).hexdigest()


def path_of(section: str) -> Path:
    """The JSON of a section."""
    return FOLDER / f"{section}.json"


def teacher_of(results: PipelineResults) -> dict[str, object]:
    """The fields of an outcome that are its teacher's."""
    teacher = results.scores.teacher
    return {
        "teacher": teacher.accuracy if teacher else None,
        "teachers": tuple(each.accuracy for each in results.scores.teachers),
        "teacher_seconds": teacher.training_seconds if teacher else None,
        "test_samples": results.scores.students[0].student.samples,
    }


def _mean(seconds: list[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return sum(known) / len(known) if known else None
