"""Objectives: what each member of a stack is trained for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch.func import vmap

from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.schedule import Schedule, ends_of
from distill_queue.worker import losses
from distill_queue.worker.data.batches import Batch

#: A soft loss of the user's own: of the student's and the teacher's logits `[batch, classes]`, the targets `[batch]`,
#: -1 where there is none, and a keyword `temperature`; a scalar, the mean over the batch.
SoftLoss = Callable[..., torch.Tensor]


@dataclass(frozen=True, slots=True)
class Goal:
    """What one model is trained for: a distillation, or the labels alone."""

    distillation: DistillationSpec | None = None
    label_smoothing: float = 0.0
    #: Loaded from the user's package, where the distillation names one.
    soft_loss: SoftLoss | None = None
    #: How much a label counts in the hard loss, by its class: `[classes]`; none where all count 1.
    class_weights: torch.Tensor | None = None

    def loss(
        self,
        logits: torch.Tensor,
        teacher_logits: torch.Tensor | None,
        targets: torch.Tensor,
        partner_targets: torch.Tensor | None,
        shares: torch.Tensor | None,
        temperature: losses.Scalar,
        alpha: losses.Scalar,
    ) -> torch.Tensor:
        """The mean loss of logits `[batch, classes]`, with the batch's parts `[batch]` as in `Batch`."""
        logits = logits.float()  # Once, so that the gradients of both parts are added in float32.
        if self.distillation is None or teacher_logits is None:
            return self._hard(logits, targets, partner_targets, shares)
        soft = (
            losses.soft(logits, teacher_logits, targets, self.distillation, temperature=temperature)
            if self.soft_loss is None
            else self.soft_loss(logits, teacher_logits.float(), targets, temperature=temperature)
        )
        if self._soft_only:
            return soft
        return alpha * soft + (1.0 - alpha) * self._hard(logits, targets, partner_targets, shares)

    def _hard(
        self,
        logits: torch.Tensor,
        targets: torch.Tensor,
        partner_targets: torch.Tensor | None,
        shares: torch.Tensor | None,
    ) -> torch.Tensor:
        if partner_targets is None or shares is None:
            return losses.cross_entropy(logits, targets, self.label_smoothing, self.class_weights)
        return losses.mixed_cross_entropy(
            logits, targets, partner_targets, shares, self.label_smoothing, self.class_weights
        )

    @property
    def _soft_only(self) -> bool:
        return self.distillation is not None and self.distillation.alpha == 1.0

    @property
    def kind(self) -> str:
        """What goals have in common whose losses are computed in one go."""
        distillation = self.distillation and self.distillation.model_dump_json(exclude={"temperature", "alpha"})
        weights = None if self.class_weights is None else self.class_weights.tolist()
        return f"{distillation} {self.label_smoothing} {self._soft_only} {weights}"


class Objective:
    """The losses of all members of a stack, those of one kind computed in one go."""

    def __init__(self, goals: Sequence[Goal], device: torch.device) -> None:
        kinds: dict[str, list[int]] = {}
        for member, goal in enumerate(goals):
            kinds.setdefault(goal.kind, []).append(member)
        self._kinds = [_Kind.of(goals, members, device) for members in kinds.values()]
        self._places = torch.cat([kind.members for kind in self._kinds]).argsort()
        #: How far the training is, from 0 to 1: a tensor, so that a step that was recorded takes that of the moment.
        self._share = torch.zeros((), device=device)
        self._changes = any(goal.distillation is not None and goal.distillation.changes for goal in goals)

    def go_to(self, step: int, steps: int) -> None:
        """Set the temperatures and alphas to those of step `step`, counted from 0, of `steps`."""
        if self._changes:
            self._share.fill_(step / max(1, steps - 1))

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Losses `[members]` of logits `[members, batch, classes]`."""
        parts = [kind.losses(logits, batch, self._share) for kind in self._kinds]
        return parts[0] if len(parts) == 1 else torch.cat(parts)[self._places]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Members of a stack whose losses differ in numbers only."""

    goal: Goal
    #: `[members]`.
    members: torch.Tensor
    temperatures: _Numbers
    alphas: _Numbers
    #: Whether the stack has no other members.
    alone: bool

    @classmethod
    def of(cls, goals: Sequence[Goal], members: list[int], device: torch.device) -> Self:
        """The kind of some members' goals."""
        distillations = [goals[member].distillation or DistillationSpec() for member in members]
        return cls(
            goals[members[0]],
            torch.tensor(members, device=device),
            _Numbers.of([each.temperature for each in distillations], device),
            _Numbers.of([each.alpha for each in distillations], device),
            len(members) == len(goals),
        )

    def losses(self, logits: torch.Tensor, batch: Batch, share: torch.Tensor) -> torch.Tensor:
        """Losses `[members]`, where a share of the training is done."""
        stacked = [logits, batch.teacher_logits, batch.targets, batch.partner_targets, batch.shares]
        if not self.alone:
            stacked = [None if values is None else values[self.members] for values in stacked]
        loss: Callable[..., torch.Tensor] = self.goal.loss
        if len(self.members) == 1:
            single = [None if values is None else values[0] for values in stacked]
            return loss(*single, self.temperatures.only(share), self.alphas.only(share))[None]
        dimensions = tuple(None if values is None else 0 for values in stacked)
        return vmap(loss, (*dimensions, 0, 0))(*stacked, self.temperatures.at(share), self.alphas.at(share))


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The temperatures or the alphas of some members, each a number or a line from one to another."""

    #: Of each member, in the first step and in the last.
    ends: tuple[tuple[float, float], ...]
    #: `[members]`: the first values, and how far the last ones are from these.
    first: torch.Tensor
    span: torch.Tensor

    @classmethod
    def of(cls, values: Sequence[float | Schedule], device: torch.device) -> Self:
        """The values of a spec."""
        ends = tuple(ends_of(value) for value in values)
        first, last = torch.tensor(ends, device=device).unbind(1)
        return cls(ends, first, last - first)

    def at(self, share: torch.Tensor) -> torch.Tensor:
        """The values `[members]` where a share of the training is done."""
        return self.first + share * self.span if any(first != last for first, last in self.ends) else self.first

    def only(self, share: torch.Tensor) -> losses.Scalar:
        """The value of a single member: a number where it does not change, which losses compute with faster."""
        first, last = self.ends[0]
        return first if first == last else self.at(share)[0]
