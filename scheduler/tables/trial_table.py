"""The table of a study's best trials."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from distill_queue.scheduler.tune.page import cells_of, columns_of
from distill_queue.scheduler.tune.space import Choice, Range
from distill_queue.scheduler.tune.trial import Trial, ranked

#: Trials that are shown, the best first.
MOST = 10


def trial_table(trials: Sequence[Trial], dimensions: Sequence[Choice | Range]) -> Table:
    """The best trials, with their values and their accuracies on held-out samples."""
    table = Table(title=f"Trials of {len(trials)}: accuracy on held-out samples")
    for name in columns_of(dimensions):
        table.add_column(name, justify="right")
    for trial in [each for each in ranked(trials) if each.held_out][:MOST]:
        table.add_row(*cells_of(trial))
    return table
