"""The client of a queue: submit, follow and read pipelines.

It is longer than other modules, and simple: one method for each thing that a program may ask, with the errors that it
raises.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_queue.scheduler.client.comparison import ComparedStudent, Order, compared
from distill_queue.scheduler.client.continued import with_continued
from distill_queue.scheduler.client.data_on_disk import load_spec, with_content
from distill_queue.scheduler.client.following import followed
from distill_queue.scheduler.client.given_files import store_given
from distill_queue.scheduler.client.outcome import results_of
from distill_queue.scheduler.terminal.output import Terminal
from distill_queue.scheduler.watch import tree as live
from distill_queue.shared.broker.connection import broker_errors, connect
from distill_queue.shared.broker.signing import Keyring
from distill_queue.shared.errors import BrokerUnavailable, InvalidSpec, UnknownPipeline, UnreadableRecord, Untrusted
from distill_queue.shared.frozen import UNREADABLE
from distill_queue.shared.ledger.ledger import Ledger
from distill_queue.shared.ledger.results import PipelineResults, html_table
from distill_queue.shared.ledger.status import PipelineStatus, UnreadablePipeline
from distill_queue.shared.ledger.workers import WorkerEntry, WorkerRegistry
from distill_queue.shared.line import first_line
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.starts import new_schedules
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spelling import pipeline_id
from distill_queue.shared.store.store import store_of
from distill_queue.shared.store.submissions import Submission, Submissions

if TYPE_CHECKING:
    from distill_queue.scheduler.client.sender import Sender
    from distill_queue.shared.ledger.queues import QueueState

logger = logging.getLogger(__name__)


class PipelineClient:
    """Submits pipelines to the broker of the settings, and follows them."""

    def __init__(self, settings: Settings | None = None) -> None:
        """Connect.

        Raises:
            InvalidSettings: an environment variable cannot be used.
            BrokerUnavailable: the broker does not answer.

        """
        self._settings = settings or Settings.load()
        self._broker = connect(self._settings)
        self._ledger, self._roster = Ledger(self._broker, self._settings.history_seconds), WorkerRegistry(self._broker)
        self._keyring = Keyring.of(self._settings.signing_keys)
        self._store = store_of(self._settings)
        self._submissions = Submissions(self._store)

    def submit(self, spec: PipelineSpec | dict[str, Any] | Path | str) -> Pipeline:
        """Enqueue a pipeline: of a spec, of a mapping with the words of one, or of the file that has it.

        Where `DISTILL_DATA` is not set, paths of data lead from the file's folder, without one from the working folder.

        Raises:
            InvalidSpec: the spec, or the teacher's checkpoint or labels, cannot be used.
            BrokerUnavailable: the broker does not answer.
            StoreUnavailable: what is given of the teacher cannot be put into the store.

        """
        match spec:
            case dict():
                spec = with_continued(with_content(PipelineSpec.of(spec), self._settings), self._settings)
            case Path() | str():
                spec = load_spec(Path(spec), self._settings)
            case PipelineSpec():
                spec = with_continued(with_content(spec.with_files(), self._settings), self._settings)
            case _:
                raise InvalidSpec(f"a spec is a PipelineSpec, a mapping, or the path of a file, not {spec!r}")
        return self.submit_loaded(spec)

    def submit_loaded(self, spec: PipelineSpec) -> Pipeline:
        """Enqueue a pipeline of a spec that `load_spec` has read: its data are not looked for in the working folder.

        Raises:
            InvalidSpec, BrokerUnavailable, StoreUnavailable: as for `submit`.

        """
        return self._send(self._planned(spec))

    def submit_trainings(self, spec: PipelineSpec) -> Pipeline:
        """Enqueue the trainings of a spec's students, without controls, and without what scores them.

        Such a pipeline has no results: what the students reach on held-out samples stands in the trainings' records.

        Raises:
            InvalidSpec, BrokerUnavailable, StoreUnavailable: as for `submit`.

        """
        return self._send(self._planned(spec).without_scores())

    def pipeline(self, pipeline: Pipeline | str) -> Pipeline:
        """A pipeline that was submitted before, perhaps elsewhere.

        Raises:
            UnknownPipeline: the broker knows none of this id.

        """
        return Pipeline(self.status(pipeline).id, self)

    def retry(self, pipeline: Pipeline | str) -> Pipeline:
        """Submit a pipeline again as it was planned, under a new id.

        Raises:
            UnknownPipeline: the broker knows none of this id.
            Untrusted: its plan is not signed with this client's key, and so may be somebody else's.

        """
        return self._send(self._ledger.plan(pipeline_id(str(pipeline)), self._keyring))

    def workers(self) -> list[WorkerEntry]:
        """The workers that are there, by name.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        with broker_errors():
            return self._roster.workers()

    def queues(self) -> list[QueueState]:
        """What waits and runs in each queue at each priority, and the workers that serve it.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        from distill_queue.shared.ledger.queues import (
            Queues,  # With Celery, for which a client that reads no queues need not wait.
        )

        with broker_errors():
            return Queues(self._broker).states(self._roster.workers())

    def served_queues(self) -> dict[str, bool]:
        """The queues that workers serve, each with whether one of its workers obeys this client."""
        served: dict[str, bool] = {}
        for worker in self.workers():
            obeys = worker.obeys(self._keyring.signs_as)
            served |= {queue: obeys or served.get(queue, False) for queue in worker.queues}
        return served

    def find(self, pipeline: Pipeline | str) -> PipelineStatus | None:
        """Where a pipeline stands; None for one that the store knows and the broker has forgotten.

        Raises:
            UnknownPipeline: neither knows one of this id.

        """
        try:
            return self.status(pipeline)
        except UnknownPipeline:
            if self._submissions.find(str(pipeline)) is None:
                raise
            return None

    def cancel(self, pipeline: Pipeline | str) -> None:
        """Stop a pipeline: no further stage starts, and running ones end; what is finished stays.

        Raises:
            UnknownPipeline: neither the broker nor the store knows one of this id.

        """
        try:
            status = self.find(pipeline)
            unfinished = status is not None and not status.finished
        except UnreadableRecord:  # Workers of a newer version can read it, and obey.
            unfinished = True
        self._submissions.remove(str(pipeline))
        if unfinished:
            self._ledger.cancel(str(pipeline))

    def recover(self) -> list[str]:
        """Enqueue again each unfinished pipeline that the store knows and the broker does not; return their ids."""
        recovered = []
        known = set(self._ledger.pipelines())
        # All are read before the first one is sent: one that cannot be read is an error, not half of a recovery.
        kept = [
            (pipeline, None if pipeline in known else submission, submission.plan.report.ref in self._store)
            for pipeline, submission in self._submissions
        ]
        for pipeline, submission, is_finished in kept:
            if is_finished:
                self._submissions.remove(pipeline)
            elif submission:
                try:
                    self._require_signed(pipeline, submission)
                    self._enqueue(pipeline, submission)
                    recovered.append(pipeline)
                except (Untrusted, UnreadableRecord, *UNREADABLE, AttributeError) as error:
                    logger.warning("%s is passed over: %s", pipeline, first_line(error))
        return recovered

    def status(self, pipeline: Pipeline | str) -> PipelineStatus:
        """Where a pipeline stands.

        Raises:
            UnknownPipeline: the broker knows none of this id.

        """
        return self._ledger.status(pipeline_id(str(pipeline)))

    def ids(self, limit: int | None = None) -> list[str]:
        """Ids of the pipelines that the broker knows, the newest first, at most so many."""
        return self._ledger.pipelines(limit)

    def pipelines(self, limit: int | None = None) -> list[PipelineStatus]:
        """Where the pipelines that the broker knows stand, the newest first, at most so many.

        Those that this version cannot read are left out: `standings` has them, too.
        """
        return [each for each in self.standings(limit) if isinstance(each, PipelineStatus)]

    def standings(self, limit: int | None = None) -> Iterator[PipelineStatus | UnreadablePipeline]:
        """As `pipelines`, one after the other, with those that this version cannot read; there may be many.

        Raises:
            BrokerUnavailable: the broker does not answer.

        """
        return self._ledger.standings(self._ledger.pipelines(limit))

    def watch(self, pipeline: Pipeline | str) -> Iterator[PipelineStatus]:
        """The pipeline's status again and again, until it is finished.

        Raises:
            UnknownPipeline: the broker knows none of this id.
            BrokerUnavailable: the broker was away for longer than ten minutes.

        """
        return followed(lambda: self.status(pipeline))

    def results(self, pipeline: Pipeline | str) -> PipelineResults:
        """What came out of a finished pipeline.

        Raises:
            PipelineFailed: it failed, or is not finished; the message says why.

        """
        return results_of(self.status(pipeline))

    def compare(
        self, pipelines: Iterable[Pipeline | str] | Pipeline | str, order: Order = "given"
    ) -> list[ComparedStudent]:
        """The students of finished pipelines side by side, or those of one.

        Raises:
            InvalidInput: there is no such order.
            PipelineFailed: one of them failed, or is not finished; the message says why.

        """
        given = (pipelines,) if isinstance(pipelines, Pipeline | str) else pipelines
        statuses = [self.status(each) for each in given]
        return compared([(results_of(status), status.plan) for status in statuses], order)

    @cached_property
    def _sender(self) -> Sender:
        from distill_queue.scheduler.client.sender import (
            Sender,  # With Celery, for which a client that only reads need not wait.
        )

        return Sender(self._settings, self._keyring)

    def _planned(self, spec: PipelineSpec) -> Plan:
        plan = Plan.of(spec)
        for sentence in new_schedules(plan.stages):
            logger.warning("%s", sentence)
        store_given(self._store, spec, plan)
        return plan

    def _send(self, plan: Plan) -> Pipeline:
        """Enqueue a new pipeline of a plan."""
        pipeline = f"{plan.name}-{secrets.token_hex(4)}"
        submission = Submission(plan=plan, canvas=self._sender.messages(plan, pipeline))
        self._submissions.enter(pipeline, submission)
        try:
            self._enqueue(pipeline, submission)
        except BaseException:
            # Its first message may have arrived all the same: workers leave that of a cancelled pipeline. If the broker
            # cannot be told so, the submission stays, and is sent again.
            with suppress(BrokerUnavailable):
                self.cancel(pipeline)
            raise
        return Pipeline(pipeline, self)

    def _enqueue(self, pipeline: str, submission: Submission) -> None:
        messages = self._sender.opened(submission.canvas, pipeline)
        self._ledger.open(pipeline, submission.plan, self._keyring)
        self._sender.send(messages)

    def _require_signed(self, pipeline: str, submission: Submission) -> None:
        """Refuse a submission whose plan, which is signed when it is sent, is not the one of its signed messages."""
        signed = self._sender.stages_in(submission.canvas, pipeline)
        if signed != {(pipeline, stage.model_dump_json()) for stage in submission.plan.stages}:
            raise Untrusted("its plan is not the one whose messages are signed")


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A submitted pipeline, for notebooks and scripts."""

    id: str
    _client: PipelineClient = field(repr=False)

    @property
    def status(self) -> PipelineStatus:
        """Where it stands now."""
        return self._client.status(self.id)

    def watch(self) -> PipelineResults:
        """Show its progress until it ends, and return its results.

        Raises:
            PipelineFailed: it failed or was cancelled; the message says why.

        """
        live.follow(self._client.watch(self.id), Terminal(), self._client.served_queues)
        return self.results()

    def results(self) -> PipelineResults:
        """What came out of it.

        Raises:
            PipelineFailed: it failed, or is not finished; the message says why.

        """
        return self._client.results(self.id)

    def cancel(self) -> None:
        """Stop it: what is finished stays, stages that another pipeline needs go on."""
        self._client.cancel(self.id)

    def __str__(self) -> str:
        return self.id

    def _repr_html_(self) -> str:
        """Where its stages stand, for notebooks."""
        status = self.status
        rows = [
            [live.MARKS[state.state], stage.title, live.describe(state), state.worker]
            for stage in status.plan.stages
            for state in [status.states[stage.key]]
        ]
        return f"<p><b>{escape(self.id)}</b>: {status.state}</p>" + html_table(("", "stage", "", "worker"), rows)
