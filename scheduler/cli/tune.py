"""The `distill tune` command: the best values of a student. Imports late: `--help` answers at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distill_queue.scheduler.cli.options import Changes, SpecPath, Workers, console
from distill_queue.shared.errors import DistillError, PipelineFailed

if TYPE_CHECKING:
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.local import LocalStack
    from distill_queue.scheduler.tune.study import Study
    from distill_queue.scheduler.tune.trial import Trial
    from distill_queue.scheduler.tune.tuned_spec import TunedSpec
    from distill_queue.shared.ledger.status import PipelineStatus
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.store.store import ArtifactStore

app = typer.Typer()


@app.command()
def tune(
    spec: SpecPath,
    minutes: Annotated[float, typer.Option(min=0.01, max=100_000, help="How long to search.")] = 30.0,
    trials: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="The most candidates, those of earlier runs included.")
    ] = None,
    student: Annotated[
        str | None, typer.Option(metavar="NAME", help="The student to tune, where the spec has several.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of the search: another one is another study.")] = 0,
    workers: Workers = 1,
    on_queue: Annotated[
        bool, typer.Option("--on-queue", help="Use the workers at the broker, instead of starting some here.")
    ] = False,
    changes: Changes = None,
) -> None:
    """Search the best values of a student, then run it: temperature, alpha, learning rate and loss, or its ranges.

    Candidates are compared on samples held out of the training data. The best one is run with its control, and scored
    on the test samples once. The same command goes on where an earlier one ended.
    """
    from distill_queue.scheduler.client.data_on_disk import holds_out, paths_from_elsewhere, with_content, with_folders
    from distill_queue.scheduler.tune.study import Study
    from distill_queue.scheduler.tune.tuned_spec import TunedSpec
    from distill_queue.shared.settings import Settings
    from distill_queue.shared.spec.file import SpecFile
    from distill_queue.shared.store.store import store_of

    settings = Settings.load()
    store = store_of(settings)
    source = SpecFile.read(spec).changed(changes or ())
    tuned = TunedSpec.of(source, student, holds_out=lambda read: holds_out(read, settings, spec))
    tuned = replace(tuned, spec=with_content(tuned.spec, settings, source))
    paths = paths_from_elsewhere(tuned.spec, settings, spec)
    settings = with_folders(settings, tuned.spec, spec)
    study = Study(tuned.space, seed)
    outcome = Outcome(tuned, study, store, settings.folder / "reports", tuned.study_id(seed), paths)
    store.check_writable()
    for line in outcome.introduction():
        console.print(line, soft_wrap=True)
    with _workers(settings, None if on_queue else workers) as (client, stack):
        _search(client, stack, outcome, minutes, trials)
        _run_best(client, stack, outcome, settings)


@dataclass(slots=True)
class Outcome:
    """A study, and what is kept of it: a page and the best spec."""

    tuned: TunedSpec
    study: Study
    store: ArtifactStore
    folder: Path
    name: str
    #: Of the data, as they are found from that folder.
    paths: dict[str, str]

    def introduction(self) -> Iterator[str]:
        """What the study searches, in lines."""
        from distill_queue.scheduler.tune.tuned_spec import VALIDATION

        yield f"Study {self.name}: {'; '.join(each.words for each in self.tuned.space.dimensions)}"
        if self.tuned.is_validation_ours:
            held_out = f"are held out (dataset.validation: {VALIDATION}){self.tuned.unless}"
            yield f"The spec holds out no samples to choose by: {VALIDATION:.0%} of the training samples {held_out}"
        if (measure := self.tuned.student.training.best_by) != "accuracy":
            yield f"Candidates are compared by accuracy; 'best_by: {measure}' chooses their epochs alone"

    def best(self) -> Trial:
        """The best trial.

        Raises:
            PipelineFailed: none was trained in full.

        """
        from distill_queue.scheduler.tune.rung import RUNGS
        from distill_queue.scheduler.tune.trial import best_of

        best = best_of(self.study.trials, len(RUNGS))
        if best is None:
            raise PipelineFailed(
                self.study.failure
                or "no candidate is trained in full yet: the same command goes on where this one ended"
            )
        return best

    def so_far(self, found: list[Trial]) -> str:
        """The best trial after a round, in words, and why the round has none if it has none."""
        try:
            best = self.best()
        except PipelineFailed as error:
            return str(error)
        words = f"best so far is trial {best.number} with {best.held_out[-1]:.2%} held out: {best.words}"
        if all(trial.error for trial in found):
            return f"all failed, as trial {found[0].number}: {found[0].error}; {words}"
        return words

    @property
    def tried(self) -> int:
        """How many candidates were trained, those with the same values counted once."""
        return len({trial.words for trial in self.study.trials if trial.held_out})

    @property
    def headline(self) -> str:
        """The best trial beside what the study began with, in a sentence."""
        from distill_queue.scheduler.tune.rung import RUNGS
        from distill_queue.shared.report.sentences import percent

        best, start = self.best(), self.study.trials[0]
        finished = {trial.words: trial.held_out[-1] for trial in self.study.trials if len(trial.held_out) == len(RUNGS)}
        equals = list(finished.values()).count(best.held_out[-1]) - 1
        tie = f" ({equals} other{'s' if equals > 1 else ''} reached as much)" if equals else ""
        sentence = f"Best of {self.tried} candidates on held-out samples: {percent(best.held_out[-1], 2)}{tie}"
        beside = ""
        if best is not start and len(start.held_out) == len(RUNGS):
            beside = f"; {percent(start.held_out[-1], 2)} with what the study began with ({start.words})"
        return f"{sentence} with {best.words}{beside}."

    def write_spec(self) -> tuple[Path, str]:
        """Write the best spec; return its path and its text."""
        from distill_queue.scheduler.tune.tuned_spec import yaml_of
        from distill_queue.shared.errors import store_errors
        from distill_queue.shared.files.folders import write_whole

        best, file = self.best(), self.folder / f"{self.name}.yaml"
        comments = [
            f"The best of {self.tried} candidates of the study {self.name} of 'distill tune':",
            f"trial {best.number}, {best.words}.",
            f"{100 * best.held_out[-1]:.2f} % on held-out samples, with other seeds than those below.",
        ]
        text = yaml_of(self.tuned, best.student, self.paths, comments)
        with store_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_whole(file, text)
        return file, text

    def write_page(self, headlines: tuple[str, ...], best_spec: tuple[Path, str]) -> Path:
        """Write the study's page; return its path."""
        from distill_queue.scheduler.tune.page import write_study_page

        page, tried = self.store.report(self.name), [trial for trial in self.study.trials if trial.held_out]
        importances = self.study.importances()
        write_study_page(page, self.name, headlines, tried, self.tuned.space.dimensions, importances, best_spec)
        self.store.share_report(self.name)
        return page

    def show(self, sentences: tuple[str, ...] = ()) -> None:
        """Print the best trials, write what is kept, and say where it lies."""
        from distill_queue.scheduler.tables.trial_table import trial_table

        headlines = (self.headline, *sentences)
        file, text = self.write_spec()
        page = self.write_page(headlines, (file, text))
        console.print(trial_table(self.study.trials, self.tuned.space.dimensions))
        for sentence in headlines:
            console.print(sentence, soft_wrap=True)
        console.print(f"Best spec: {file}\nStudy: {page}", soft_wrap=True)


@contextmanager
def _workers(settings: Settings, number: int | None) -> Iterator[tuple[PipelineClient, LocalStack | None]]:
    """A client, and as many workers started here; with None, those at the broker."""
    from distill_queue.scheduler.client.client import PipelineClient
    from distill_queue.scheduler.stack.local import LocalStack

    if number is None:
        yield PipelineClient(settings), None
        return
    with LocalStack(settings, workers=number) as stack:
        yield PipelineClient(stack.settings), stack
        stack.idle = True


def _search(
    client: PipelineClient, stack: LocalStack | None, outcome: Outcome, minutes: float, most: int | None
) -> None:
    """Train round after round; after Ctrl-C, show what is best so far."""
    from distill_queue.scheduler.tune.trainings import Trainings

    began = time.monotonic()
    tend: Callable[[], object] = stack.tend if stack else lambda: None
    served = (lambda: None) if stack else client.served_queues
    train = Trainings(client, outcome.store, outcome.tuned, began + 60 * minutes, tend, served, _say)
    try:
        for number, found in enumerate(outcome.study.rounds(train, most), start=1):
            minute = (time.monotonic() - began) / 60
            _say(f"round {number}, {len(found)} candidates, {minute:.1f} min: {outcome.so_far(found)}")
    except (KeyboardInterrupt, DistillError) as error:
        if isinstance(error, KeyboardInterrupt):
            _say("stopped: the same command goes on where this one ended")
        with suppress(PipelineFailed):  # None is trained in full yet.
            outcome.show()
        raise


def _run_best(client: PipelineClient, stack: LocalStack | None, outcome: Outcome, settings: Settings) -> None:
    """Run the best spec, and show what came of all."""
    from distill_queue.scheduler.cli.report import page_of
    from distill_queue.scheduler.client.outcome import keep_results, results_of
    from distill_queue.scheduler.watch import tree as live
    from distill_queue.shared.report.sentences import headlines
    from distill_queue.shared.store.submissions import Submissions

    def tended() -> Iterator[PipelineStatus]:
        for status in client.watch(pipeline):
            yield status
            if stack:
                stack.tend()

    outcome.write_spec()
    pipeline = client.submit_loaded(outcome.tuned.with_student(outcome.best().student))
    try:
        live.follow(tended(), console, (lambda: None) if stack else client.served_queues)
        status = pipeline.status
        results = results_of(status)
        kept = keep_results(settings, results)
    except (KeyboardInterrupt, PipelineFailed):
        outcome.show()
        raise
    finally:
        if stack:
            Submissions(outcome.store).remove(pipeline.id)
    outcome.show((f"On test samples: {headlines(results.scores)[0]}",))
    _say(f"Results: {kept}\nReport: {page_of(status, outcome.store)}")
    _say(f"Next: 'distill results {pipeline}' prints the tables, with --json all figures")


def _say(line: str) -> None:
    console.print(line, soft_wrap=True)
