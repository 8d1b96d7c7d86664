"""Optimisers: one fused step over the parameters of a stack, with a learning rate of its own for each slice.

They call the fused kernels that `torch.optim` calls, and give the same bits. `torch.optim` itself loads a compiler at
its first use, 1.3 s on the machine where this was measured, and takes 0.15 ms more for a step (torch 2.15).

On a card the learning rates are tensors there, so that a step that was recorded takes those of the moment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch

from distill_queue.shared.spec.training import MOMENTUM, TrainingSpec

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are changed alike."""

    parameters: list[torch.Tensor]
    learning_rate: float
    weight_decay: float

    @classmethod
    def of(
        cls,
        leaves: Sequence[torch.Tensor],
        shapes: Sequence[torch.Tensor],
        learning_rates: Sequence[float],
        weight_decay: float,
    ) -> list[Self]:
        """The groups of a model's parameters: matrices and kernels decay, norms and biases do not.

        Args:
            leaves: what is changed; of a stack, slices with a dimension for the members.
            shapes: one model's own parameters, in the same order.
            learning_rates: of each parameter.
            weight_decay: of the matrices and kernels.

        """
        groups = []
        for rate in dict.fromkeys(learning_rates):
            parts: tuple[list[torch.Tensor], list[torch.Tensor]] = ([], [])
            for leaf, parameter, own in zip(leaves, shapes, learning_rates, strict=True):
                if own == rate:
                    parts[parameter.ndim > 1].append(leaf)
            if not weight_decay:
                groups.append(cls(parts[0] + parts[1], rate, 0.0))
                continue
            groups += [cls(part, rate, decay) for part, decay in zip(parts, (0.0, weight_decay), strict=True) if part]
        return groups


#: A learning rate, or a float32 tensor without dimensions beside the parameters.
Rate = float | torch.Tensor


@dataclass(frozen=True, slots=True)
class Move:
    """What a step does to tensors that are changed alike."""

    parameters: list[torch.Tensor]
    gradients: list[torch.Tensor]
    #: Beside the parameters, by name.
    state: dict[str, list[torch.Tensor]]
    learning_rate: Rate
    weight_decay: float
    #: 1 where the step is not to be taken, 0 where it is, as a float32 tensor; None: it is.
    broken: torch.Tensor | None


class Rates:
    """The learning rates of groups, by a factor."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._rates = [group.learning_rate for group in groups]
        self._factor = 1.0

    def scale(self, factor: float) -> None:
        """Set the factor."""
        self._factor = factor

    def now(self) -> Sequence[Rate]:
        """The groups' rates by the factor."""
        return [self._factor * rate for rate in self._rates]


class RatesOnDevice(Rates):
    """The same as tensors beside the parameters: `now` can be recorded, and then follows the factor."""

    def __init__(self, groups: Sequence[Group]) -> None:
        super().__init__(groups)
        device = groups[0].parameters[0].device
        self._whole = torch.tensor(self._rates, device=device)
        self._scale, self._scaled = torch.ones((), device=device), torch.empty_like(self._whole)

    def scale(self, factor: float) -> None:
        """Set the factor, without waiting for the device."""
        self._scale.fill_(factor)

    def now(self) -> Sequence[Rate]:
        """The groups' rates by the factor."""
        return torch.mul(self._whole, self._scale, out=self._scaled).unbind()


class Optimizer(ABC):
    """Changes the tensors of its groups along their gradients; a step's learning rates are the groups' by a factor."""

    def __init__(self, groups: Sequence[Group], *, rates_on_device: bool = False) -> None:
        self._groups = groups
        self._rates = (RatesOnDevice if rates_on_device else Rates)(groups)
        #: What the next step depends on beside the parameters, by name and by number of parameter.
        self.state: dict[str, list[torch.Tensor]] = {name: [] for name in self._names()}
        for parameter in self.parameters:
            for name, tensors in self.state.items():
                tensors.append(self._begin(name, parameter))

    @property
    def parameters(self) -> list[torch.Tensor]:
        """All tensors that it changes."""
        return [parameter for group in self._groups for parameter in group.parameters]

    def step(self, factor: float) -> None:
        """Take a step, and forget the gradients."""
        self.scale(factor)
        self.descend()

    def scale(self, factor: float) -> None:
        """Have the next steps take the groups' learning rates by a factor."""
        self._rates.scale(factor)

    @property
    def gradients(self) -> list[torch.Tensor]:
        """The gradients that there are."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def descend(self, broken: torch.Tensor | None = None) -> None:
        """Take a step with the learning rates that were set, and forget the gradients; it can be recorded.

        Args:
            broken: 1 where the step is not to be taken, 0 where it is, as a float32 tensor; None: it is.

        """
        first = 0
        for group, rate in zip(self._groups, self._rates.now(), strict=True):
            # Frozen or unused parameters have none, and stay as they are.
            moved = [place for place, parameter in enumerate(group.parameters) if parameter.grad is not None]
            if moved:
                parameters = [group.parameters[place] for place in moved]
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                state = {name: [tensors[first + place] for place in moved] for name, tensors in self.state.items()}
                self._descend(Move(parameters, gradients, state, rate, group.weight_decay, broken))
            first += len(group.parameters)
        self.forget()

    def forget(self) -> None:
        """Forget the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @abstractmethod
    def _names(self) -> tuple[str, ...]:
        """What the state consists of."""

    @abstractmethod
    def _begin(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        """The state of a parameter before the first step."""

    @abstractmethod
    def _descend(self, move: Move) -> None:
        """Change the tensors."""


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); or AdamW, whose decay passes by the gradient (Loshchilov and Hutter 2019)."""

    def __init__(self, groups: Sequence[Group], *, decoupled: bool = False, rates_on_device: bool = False) -> None:
        super().__init__(groups, rates_on_device=rates_on_device)
        self._kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_

    def _names(self) -> tuple[str, ...]:
        return "mean", "square", "steps"

    def _begin(self, name: str, parameter: torch.Tensor) -> torch.Tensor:
        return parameter.new_zeros((), dtype=torch.float32) if name == "steps" else torch.zeros_like(parameter)

    @torch.no_grad()
    def _descend(self, move: Move) -> None:
        steps = move.state["steps"]
        torch._foreach_add_(steps, 1.0)
        self._kernel(
            move.parameters,
            move.gradients,
            move.state["mean"],
            move.state["square"],
            [],
            steps,
            lr=move.learning_rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=move.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
            found_inf=move.broken,
        )
        if move.broken is not None:
            torch._foreach_sub_(steps, [move.broken] * len(steps))


class Sgd(Optimizer):
    """Gradient descent with momentum, which may be Nesterov's (Sutskever et al. 2013)."""

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        momentum: float = MOMENTUM,
        nesterov: bool = True,
        rates_on_device: bool = False,
    ) -> None:
        self._momentum, self._nesterov = momentum, nesterov and momentum > 0.0
        super().__init__(groups, rates_on_device=rates_on_device)

    def _names(self) -> tuple[str, ...]:
        return ("momentum",) if self._momentum else ()

    def _begin(self, name: str, parameter: torch.Tensor) -> torch.Tensor:  # noqa: ARG002 (there is one)
        return torch.zeros_like(parameter)

    @torch.no_grad()
    def _descend(self, move: Move) -> None:
        torch._fused_sgd_(
            move.parameters,
            move.gradients,
            move.state.get("momentum", []),
            weight_decay=move.weight_decay,
            momentum=self._momentum,
            lr=move.learning_rate,
            dampening=0.0,
            nesterov=self._nesterov,
            maximize=False,
            is_first_step=False,
            found_inf=move.broken,
        )


def build(training: TrainingSpec, groups: Sequence[Group]) -> Optimizer:
    """The optimiser that a spec names."""
    on_card = any(parameter.is_cuda for group in groups for parameter in group.parameters)
    match training.optimizer:
        case "adam":
            return Adam(groups, rates_on_device=on_card)
        case "adamw":
            return Adam(groups, decoupled=True, rates_on_device=on_card)
        case "sgd":
            return Sgd(groups, momentum=training.momentum, nesterov=training.nesterov, rates_on_device=on_card)
