"""A recorded step: a CUDA graph of what is done in each step of a training, which a card repeats as a whole."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

import torch
from torch import nn

from distill_queue.shared.line import first_line
from distill_queue.worker.machine.memory import USABLE, Need

#: Steps that are taken before one is recorded: libraries allocate and choose their kernels in the first ones.
WARM_UPS = 3
#: Largest share of the free memory that a batch may take: a graph keeps its own, and large batches gain nothing.
LARGEST_SHARE = 1 / 8

#: What a step is given: tensors `[members, batch, ...]` on the device; None where there is no such part.
Parts = tuple[torch.Tensor | None, ...]
#: What it comes to: tensors on the device.
Outcome = tuple[torch.Tensor, ...]
#: A step, always the same one but for its parts: it depends on nothing but these, and tensors that stay in their place.
Step = Callable[..., Outcome]

logger = logging.getLogger(__name__)


class RecordedStep:
    """Takes steps; from the fourth batch of the full size on, it replays what the card did in one of them.

    A replay runs the same kernels on the same addresses. The bits are those of the step itself.
    """

    def __init__(self, batch_size: int) -> None:
        """Record nothing yet; batches of another size than `batch_size` are never replayed."""
        self._batch_size = batch_size
        #: Steps that are still to be taken before one is recorded.
        self._warm_ups = WARM_UPS
        self._failed = False
        self._recording: _Recording | None = None

    def __call__(self, step: Step, first: torch.Tensor, *others: torch.Tensor | None) -> Outcome:
        """Take a step; the next call overwrites the tensors that are returned.

        A step that cannot be recorded is taken as it is, this time and from then on.
        """
        if self._failed or first.shape[1] != self._batch_size:
            return step(first, *others)
        if self._warm_ups:
            self._warm_ups -= 1
            return _aside(step, first, *others)
        if self._recording is None:
            try:
                self._recording = _record(step, (first, *others), first.device)
            except RuntimeError as error:
                self._failed = True
                # An error in the step makes the end of the recording fail too, which says less.
                reason = first_line(error.__context__ or error)
                logger.info("the training's steps are not recorded, but taken one by one: %s", reason)
                return step(first, *others)
            logger.debug("the training's steps are recorded")
        return self._recording.replay((first, *others))


@dataclass(frozen=True, slots=True)
class _Recording:
    """A graph, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    parts: list[torch.Tensor]
    outcome: Outcome

    def replay(self, parts: Parts) -> Outcome:
        """Take the step that was recorded with other parts."""
        torch._foreach_copy_(self.parts, _present(parts))
        self.graph.replay()
        return self.outcome


def can_repeat(models: Sequence[nn.Module]) -> bool:
    """Whether all models run the same kernels on every batch of a size: those of our families that say so.

    The class itself has to say so, as a class of the user's own may do more than the one that it is made from.
    """
    return all(vars(type(model)).get("repeats_its_kernels", False) for model in models)


def has_room(need: Need, free: int, *, streamed: bool) -> bool:
    """Whether a batch is small, and fits twice into `free` bytes: a graph's own, and one beside it."""
    taken = need.models + need.batch + (0 if streamed else need.data)
    return need.batch <= free * LARGEST_SHARE and taken + need.batch <= free * USABLE


def _aside(step: Step, first: torch.Tensor, *others: torch.Tensor | None) -> Outcome:
    """Take a step on the stream on which one is going to be recorded, as libraries hold memory for each stream."""
    stream = _side_stream(first.device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        outcome = step(first, *others)
    torch.cuda.current_stream().wait_stream(stream)
    return outcome


def _record(step: Step, parts: Parts, device: torch.device) -> _Recording:
    """Record a step, which takes none.

    Raises:
        RuntimeError: it cannot be recorded.

    """
    graph, pool, stream = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle(), _side_stream(device)
    own = [None if part is None else part.clone() for part in parts]
    # The stream is entered here too: where a recording fails, torch's own context leaves it current (2.11).
    with torch.cuda.stream(stream):
        try:
            # Only this thread is watched for what cannot be recorded, as another one may read samples ahead.
            with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                outcome = step(*own)
        except RuntimeError:
            _clean_up(device, pool)
            raise
    return _Recording(graph, _present(own), outcome)


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all trainings of a process."""
    return torch.cuda.Stream(device)


def _clean_up(device: torch.device, pool: tuple[int, int]) -> None:
    """Undo what a recording that failed leaves behind in torch (2.11)."""
    # The allocator would go on to look for the recording.
    with suppress(RuntimeError):
        torch._C._cuda_endAllocateToPool(device.index, pool)
        torch._C._cuda_releasePool(device.index, pool)
    # The generator would refuse to give numbers outside of the recording; a copy of its state is in none.
    generator = torch.cuda.default_generators[device.index]
    generator.graphsafe_set_state(generator.clone_state())


def _present(parts: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
    return [part for part in parts if part is not None]
