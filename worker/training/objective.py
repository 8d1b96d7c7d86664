"""Objectives: what each member of a stack is trained for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch.func import vmap

from distill_queue.shared.spec.distillation import DistillationSpec
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
            return losses.cross_entropy(logits, targets, self.label_smoothing)
        return losses.mixed_cross_entropy(logits, targets, partner_targets, shares, self.label_smoothing)

    @property
    def _soft_only(self) -> bool:
        return self.distillation is not None and self.distillation.alpha == 1.0

    @property
    def kind(self) -> str:
        """What goals have in common whose losses are computed in one go."""
        distillation = self.distillation and self.distillation.model_dump_json(exclude={"temperature", "alpha"})
        return f"{distillation} {self.label_smoothing} {self._soft_only}"


class Objective:
    """The losses of all members of a stack, those of one kind computed in one go."""

    def __init__(self, goals: Sequence[Goal], device: torch.device) -> None:
        kinds: dict[str, list[int]] = {}
        for member, goal in enumerate(goals):
            kinds.setdefault(goal.kind, []).append(member)
        self._kinds = [_Kind.of(goals, members, device) for members in kinds.values()]
        self._places = torch.cat([kind.members for kind in self._kinds]).argsort()

    def __call__(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Losses `[members]` of logits `[members, batch, classes]`."""
        parts = [kind.losses(logits, batch) for kind in self._kinds]
        return parts[0] if len(parts) == 1 else torch.cat(parts)[self._places]


@dataclass(frozen=True, slots=True)
class _Kind:
    """Members of a stack whose losses differ in numbers only."""

    goal: Goal
    #: `[members]`, as the two below.
    members: torch.Tensor
    temperatures: torch.Tensor
    alphas: torch.Tensor
    #: Whether the stack has no other members.
    alone: bool

    @classmethod
    def of(cls, goals: Sequence[Goal], members: list[int], device: torch.device) -> Self:
        """The kind of some members' goals."""
        distillations = [goals[member].distillation or DistillationSpec() for member in members]
        return cls(
            goals[members[0]],
            torch.tensor(members, device=device),
            torch.tensor([each.temperature for each in distillations], device=device),
            torch.tensor([each.alpha for each in distillations], device=device),
            len(members) == len(goals),
        )

    def losses(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Losses `[members]`."""
        stacked = [logits, batch.teacher_logits, batch.targets, batch.partner_targets, batch.shares]
        if not self.alone:
            stacked = [None if values is None else values[self.members] for values in stacked]
        loss: Callable[..., torch.Tensor] = self.goal.loss
        if len(self.members) == 1:
            single = [None if values is None else values[0] for values in stacked]
            numbers = self.goal.distillation or DistillationSpec()
            return loss(*single, numbers.temperature, numbers.alpha)[None]
        dimensions = tuple(None if values is None else 0 for values in stacked)
        return vmap(loss, (*dimensions, 0, 0))(*stacked, self.temperatures, self.alphas)
