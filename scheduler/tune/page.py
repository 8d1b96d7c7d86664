"""The page of a study: its trials, how the best came about, what mattered, and the best spec."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from pathlib import Path

from matplotlib.axes import Axes

from distill_queue.scheduler.tune.rung import RUNGS
from distill_queue.scheduler.tune.space import Choice, Range
from distill_queue.scheduler.tune.trial import Trial, ranked
from distill_queue.shared.report.drawing import height_of_rows, name_rows, set_round_ticks
from distill_queue.shared.report.page import Page, filled, put_page
from distill_queue.shared.report.section import Listing, Section, Table
from distill_queue.shared.report.sentences import percent
from distill_queue.shared.report.svg import COLOURS, Picture, plain
from distill_queue.shared.spec.grid import words_of

#: The most trials that a table shows, the best first.
MOST_TRIALS = 40


def write_study_page(
    path: Path,
    name: str,
    headlines: tuple[str, ...],
    trials: Sequence[Trial],
    dimensions: Sequence[Choice | Range],
    importances: dict[str, float],
    best_spec: tuple[Path, str],
) -> None:
    """Write a study's page, whole or not at all.

    Args:
        path: where.
        name: the study's.
        headlines: what came of it, in sentences.
        trials: those that were trained, at least on the first rung.
        dimensions: in what they differ.
        importances: the share of each dimension in how much they differ.
        best_spec: the file of the best spec, and its text.

    Raises:
        StoreUnavailable: the file cannot be written.

    """
    file, text = best_spec
    again = Section(
        "Best spec",
        "The command trains the best candidate and its control, and scores them on the test samples.",
        commands=(f"distill run {shlex.quote(str(file))}",),
        listing=Listing(file.name, text),
    )
    pictures = (*_importance(importances), *_slices(trials, dimensions))
    mattered = Section(
        "What mattered",
        f"Accuracy on held-out samples after the first {_share(RUNGS[0].part)} of the epochs, one seed: all candidates "
        "have been so far. Importance is each value's share in how the best of them differ from all (PED-ANOVA).",
        pictures,
    )
    about = f"A study of 'distill tune': {len(trials)} candidates, compared on samples held out of the training data"
    sections = (_trials(trials), *([mattered] if pictures else []), again)
    put_page(filled(Page(name, (about,), headlines, 1, sections)), path)


def cells_of(trial: Trial) -> tuple[str, ...]:
    """A trial's number, its values, and its accuracy on each rung."""
    values = (words_of(value) for value in trial.values.values())
    reached = [percent(accuracy, 2) for accuracy in trial.held_out]
    return (str(trial.number), *values, *reached, *[""] * (len(RUNGS) - len(reached)))


def columns_of(dimensions: Sequence[Choice | Range]) -> tuple[str, ...]:
    """The names of the cells of a trial."""
    rungs = [f"1/{rung.part} of the epochs" if rung.part > 1 else f"all, {rung.seeds} seeds" for rung in RUNGS]
    return ("trial", *(dimension.name for dimension in dimensions), *rungs)


def _trials(trials: Sequence[Trial]) -> Section:
    best, *_ = ranked(trials)
    shown = ranked(trials)[:MOST_TRIALS]
    fewer = f", the best {MOST_TRIALS} of {len(trials)}" if len(trials) > MOST_TRIALS else ""
    columns = ("trial", *best.values, *columns_of([])[1:])
    table = Table(f"Trials{fewer}", columns, tuple(map(cells_of, shown)), best=str(best.number))
    text = (
        f"Accuracy on held-out samples. A round's candidates are trained for {_share(RUNGS[0].part)} of their epochs, "
        "with a schedule as short; the best quarter is trained in full. Trial 0 is what the study began with. No trial "
        "has seen test samples."
    )
    finished = [trial for trial in trials if len(trial.held_out) == len(RUNGS)]
    pictures = (_history(finished),) if len(finished) > 1 else ()
    return Section("Trials", text, pictures, (table,))


def _history(finished: list[Trial]) -> Picture:
    """Accuracy of the trials that were trained in full, and the best so far."""
    numbers = [trial.number for trial in finished]
    accuracies = [100 * trial.held_out[-1] for trial in finished]
    best = max(accuracies)

    def draw(axes: Axes) -> None:
        axes.plot(numbers, accuracies, "o", color=COLOURS["student"], markerfacecolor="none")
        axes.step(numbers, list(accumulate(accuracies, max)), where="post", color=COLOURS["student"])
        axes.set(xlabel="trial", ylabel="held out, %")

    says = f"the best of {len(finished)} candidates reached {best:.2f} % in trial {numbers[accuracies.index(best)]}"
    return Picture.drawn("history", "Trained in full, and the best so far", says, draw)


def _importance(importances: dict[str, float]) -> list[Picture]:
    if not importances:
        return []
    names, shares = list(importances), [100 * share for share in importances.values()]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(names)), shares, height=0.55, color=COLOURS["student"])
        name_rows(axes, [plain(name) for name in names])
        axes.set_xlabel("importance, %")

    says = f"{names[0]} matters most: {shares[0]:.0f} %"
    return [Picture.drawn("importance", "Importance", says, draw, height=height_of_rows(len(names)))]


def _slices(trials: Sequence[Trial], dimensions: Sequence[Choice | Range]) -> list[Picture]:
    """For each dimension the accuracy after the first rung, over the value."""
    tried = [trial for trial in trials if trial.held_out]
    if len(tried) < 2:
        return []
    return [
        Picture.drawn(
            f"slice-{place}",
            plain(dimension.name),
            f"accuracy after the first rung by {dimension.name}, a mark for each candidate",
            partial(_draw_slice, tried, dimension),
        )
        for place, dimension in enumerate(dimensions)
    ]


def _draw_slice(tried: Sequence[Trial], dimension: Choice | Range, axes: Axes) -> None:
    accuracies = [100 * trial.held_out[0] for trial in tried]
    mark = partial(axes.plot, color=COLOURS["student"], markerfacecolor="none")
    if isinstance(dimension, Choice):
        names = list(dimension.options)
        mark(accuracies, [names.index(str(trial.values[dimension.name])) for trial in tried], "o")
        name_rows(axes, [plain(name) for name in names])
        axes.set_xlabel("held out, %")
        return
    mark([float(trial.values[dimension.name]) for trial in tried], accuracies, "o")
    if dimension.log:
        axes.set_xscale("log")
        set_round_ticks(axes.xaxis, dimension.low, dimension.high)
    axes.set(xlabel=plain(dimension.name), ylabel="held out, %")


def _share(part: int) -> str:
    return {1: "all", 2: "half", 3: "third", 4: "quarter"}.get(part, f"1/{part}")
