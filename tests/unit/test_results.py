"""The pages' figures are those that are committed as JSON, and the JSON is of the specs as they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.reproduce import hinton
from benchmarks.reproduce.__main__ import SECTIONS, forecast
from benchmarks.reproduce.figures import ROOT, Outcome, SectionFigures, Student, hash_of
from benchmarks.reproduce.tables import PAGES, rewritten
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.results.scores import Estimate
from distill_queue.shared.spec.pipeline import PipelineSpec

FIGURES = {name: SectionFigures.load(name) for name in SECTIONS}
OUTCOMES = [outcome for figures in FIGURES.values() for outcome in figures.outcomes if outcome.spec]


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_of_a_page_are_the_committed_ones(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")

    assert rewritten(text, SECTIONS, FIGURES) == text, f"{page}: run 'python -m benchmarks.reproduce --tables'"


@pytest.mark.parametrize("outcome", OUTCOMES, ids=[outcome.spec for outcome in OUTCOMES])
def test_committed_figures_are_of_the_spec_as_it_is(outcome: Outcome) -> None:
    key = Plan.of(PipelineSpec.load(ROOT / outcome.spec)).report.key

    assert outcome.key or outcome.spec_hash, f"{outcome.spec}: its figures do not say which spec they are of"
    is_same = outcome.key in ("", key) and outcome.spec_hash in ("", hash_of(ROOT / outcome.spec))
    assert is_same, f"{outcome.spec} was changed: run 'make reproduce' for it"


def test_a_figure_that_was_altered_by_hand_is_put_right() -> None:
    figures = SectionFigures(section="recipes", outcomes=(an_outcome("few-labels", 0.91),))
    page = "before <!-- results: recipes short -->a table<!-- /results --> after"

    written = rewritten(page, SECTIONS, FIGURES | {"recipes": figures})

    assert re.search(
        r"before <!-- results: recipes short -->\n\n\| recipe .* 91\.00 % .*\n\n<!-- /results --> after",
        written,
        re.DOTALL,
    )
    assert rewritten(written.replace("91.00", "99.00"), SECTIONS, FIGURES | {"recipes": figures}) == written


def test_a_new_outcome_takes_the_place_of_the_old_one() -> None:
    figures = SectionFigures(section="recipes", outcomes=(an_outcome("a", 0.1), an_outcome("b", 0.2)))

    figures = figures.having(an_outcome("a", 0.3)).having(an_outcome("c", 0.4))

    assert [(each.name, each.students[0].accuracy.mean) for each in figures.outcomes] == [
        ("a", 0.3),
        ("b", 0.2),
        ("c", 0.4),
    ]


def test_it_is_said_beforehand_how_long_a_section_takes() -> None:
    said = forecast([SECTIONS["mnist"]], {"mnist": ["mnist-better", "nowhere"]})

    assert re.match(r"mnist: \d+ minutes the last time \(.* cores, .*\)\nmnist: it is not known how long nowhere", said)


def test_the_constant_for_missing_classes_is_the_one_with_the_fewest_errors() -> None:
    random = np.random.default_rng(0)
    targets = random.integers(0, 4, 500)
    logits = random.normal(scale=0.1, size=(500, 4)).astype(np.float32)
    logits[np.arange(500), targets] += 2
    missing = np.array([False, False, False, True])
    logits -= 5 * missing.astype(np.float32)

    constant = hinton.best_constant(logits, targets, missing)

    assert (hinton.predicted(logits, missing, 0.0)[targets == 3] != 3).all()
    assert (hinton.predicted(logits, missing, constant) == targets).all()
    assert 3 < constant < 7


def an_outcome(name: str, accuracy: float) -> Outcome:
    estimate = Estimate(mean=accuracy, deviation=None, low=None, high=None, n=1)
    spec = "examples/recipes/few-labels.yaml"
    student = Student(name="small", verdict="", accuracy=estimate)
    return Outcome(
        name=name, spec=spec, command="", date="2026-01-01", machine="", test_samples=10, students=(student,)
    )
