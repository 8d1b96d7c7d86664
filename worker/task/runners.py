"""Runners: what computes stages, made for one attempt; the code that needs torch is imported at the first one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol

from distill_queue.shared.errors import StageFailed
from distill_queue.shared.plan.stage import Bundle, Stage
from distill_queue.shared.settings import Settings
from distill_queue.shared.store.artifact import Artifact
from distill_queue.shared.store.store import ArtifactStore
from distill_queue.worker.coordination.pulse import Pulse
from distill_queue.worker.machine.last_value import LastValue
from distill_queue.worker.stages.crew import Alone, Crew

if TYPE_CHECKING:
    import torch


class Report(Protocol):
    """Called at every step of a stage; may raise `StageStopped` to end it (see `worker.machine.runtime.Report`)."""

    def __call__(self, progress: str, samples: int = 0, share: float | None = None, /) -> None:
        """Report."""


class Runner(Protocol):
    """Computes stages and commits their artifacts (see `worker.stages.runner.StageRunner`)."""

    def run(self, stage: Stage) -> Artifact:
        """Compute a stage."""

    def train(self, bundle: Bundle, missing: Bundle) -> dict[str, Artifact | StageFailed]:
        """Train the models of a bundle that are missing, side by side; by key, the artifacts or why there is none."""

    def help(self, stage: Stage) -> int:
        """Compute blocks of a stage that another worker has; return how many."""


class Runners(Protocol):
    """Makes runners."""

    def load(self) -> None:
        """Import what all stages need, before there is a lease to renew: it may stop all threads for seconds."""

    def make(
        self,
        queue: str,
        report: Report,
        *,
        confirm: Callable[[], None] = ...,
        saved: Callable[[], None] = ...,
        crew: Crew = ...,
        shards: Literal["auto"] | int = ...,
    ) -> tuple[str, Runner]:
        """A runner for tasks of a queue, and the name of the device that it computes on.

        Args:
            queue: says whether it is to be a GPU.
            report: called at every step.
            confirm: raises `StageStopped` where nothing must be written, as another worker took over.
            saved: called after each checkpoint.
            crew: who may help with soft labels.
            shards: how many are to.

        """


#: Makes the runners of a process, which has a store and beats while it lives.
MakeRunners = Callable[[Settings, ArtifactStore, Pulse], Runners]


@dataclass(frozen=True, slots=True)
class TorchRunners:
    """Those of `worker.stages`."""

    settings: Settings
    store: ArtifactStore
    pulse: Pulse
    #: A teacher's logits on the test set: kept from one evaluation to the next.
    teacher_on_test: LastValue[torch.Tensor] = field(default_factory=LastValue)
    #: All training samples, normalised: kept from one training to the next.
    prepared: LastValue[torch.Tensor] = field(default_factory=LastValue)

    def load(self) -> None:
        """Import torch, and all code that computes."""
        _load(self.pulse)

    def make(
        self,
        queue: str,
        report: Report,
        *,
        confirm: Callable[[], None] = lambda: None,
        saved: Callable[[], None] = lambda: None,
        crew: Crew | None = None,
        shards: Literal["auto"] | int = "auto",
    ) -> tuple[str, Runner]:
        """A runner on the best device that the queue may have."""
        with self.pulse.loading():  # The start of CUDA loads libraries too.
            from distill_queue.worker.machine.runtime import Runtime
            from distill_queue.worker.stages.runner import StageRunner

            runtime = Runtime.probe(self.settings, queue)
        runner = StageRunner(
            self.store,
            runtime,
            report,
            confirm,
            saved=saved,
            checkpoint_seconds=self.settings.checkpoint_seconds,
            crew=crew or Alone(),
            shards=shards,
            teacher_on_test=self.teacher_on_test,
            prepared=self.prepared,
        )
        return runtime.device_name, runner


def load_ahead(pulse: Pulse) -> None:
    """Import what all stages need in a thread, while the first message is on its way; a stage that is soon waits."""
    threading.Thread(target=_load, args=(pulse,), name="load-ahead", daemon=True).start()


def _load(pulse: Pulse) -> None:
    with pulse.loading():
        import_module("distill_queue.worker.stages.runner")
