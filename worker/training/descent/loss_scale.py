"""A loss scale: keeps gradients in the range of float16, as `torch.amp.GradScaler` does.

It calls the kernels that `GradScaler` calls, with its numbers, and gives the same bits. It does not wait for the
device, so a step with it can be recorded.
"""

from __future__ import annotations

import torch

#: The first scale; its growth after so many steps in a row that were taken, and its factor after one that was not.
FIRST, GROWTH, GROWTH_STEPS, BACKOFF = 2.0**16, 2.0, 2000, 0.5
#: Steps in a row that cannot be taken, after which a training has failed: the scale is 2^-40 of what it was.
MOST_SKIPPED = 40


class LossScale:
    """What losses are multiplied by; a step whose gradients are not finite is skipped, and the scale halved."""

    def __init__(self, device: torch.device) -> None:
        """Begin with the first scale, on the device of the gradients."""
        #: Without dimensions, float32.
        self.factor = torch.full((), FIRST, device=device)
        self._good = torch.zeros((), dtype=torch.int32, device=device)
        #: 1 where the last step was skipped, else 0.
        self._broken = torch.zeros((), device=device)
        #: Steps that were skipped: all, those since the last one that was taken, and most in a row.
        self._counts = torch.zeros(3, device=device)

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """What the next steps depend on, by name."""
        return {"factor": self.factor, "good": self._good, "counts": self._counts}

    @property
    def skipped(self) -> int:
        """Steps that were skipped so far; waits for the device."""
        return int(self._counts[0].item())

    def failure(self, last_step: int) -> str:
        """Why a training of so many steps has failed; empty where it has not."""
        most = int(self._counts[2].item())
        if most < min(MOST_SKIPPED, last_step):
            return ""
        return (
            f"the gradients are not finite in float16 in {most:,} steps one after the other: try a smaller "
            "learning_rate, or precision: float32"
        )

    @torch.no_grad()
    def unscale(self, gradients: list[torch.Tensor]) -> torch.Tensor:
        """Divide gradients by the scale, in place; return 1 where one of them is not finite, else 0, as a tensor."""
        self._broken.zero_()
        if gradients:
            inverse = self.factor.double().reciprocal().float()
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, self._broken, inverse)
        return self._broken

    @torch.no_grad()
    def update(self) -> None:
        """Count the step whose gradients were unscaled, and change the scale after it."""
        torch._amp_update_scale_(self.factor, self._good, self._broken, GROWTH, BACKOFF, GROWTH_STEPS)
        total, in_a_row, most = self._counts.unbind()
        total += self._broken
        in_a_row.add_(1.0).mul_(self._broken)
        torch.maximum(most, in_a_row, out=most)
