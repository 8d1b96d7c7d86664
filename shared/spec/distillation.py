"""What a spec says of what a student learns by: one of the soft losses that there are, or the user's own."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import OWN, is_reference
from distill_queue.shared.spec.losses.dist import Dist
from distill_queue.shared.spec.losses.dkd import Dkd
from distill_queue.shared.spec.losses.kd import Kd
from distill_queue.shared.spec.losses.loss import SoftLoss
from distill_queue.shared.spec.losses.mse import Mse
from distill_queue.shared.spec.part import Options, unknown_name
from distill_queue.shared.spec.schedule import Alpha, Schedule, Temperature, in_words


class _Distillation(SoftLoss):
    """What every loss is given, which comes before the options of one."""

    loss: str = "kd"
    """The soft loss: one that `distill losses` lists, or `package.module:callable`."""
    options: Options = Field(default={})
    """Keyword arguments of a loss of the user's own."""
    version: str = "1"
    """Of a loss of the user's own, part of the key: change it when its code changes."""
    temperature: Temperature = 4.0
    """What both logits are divided by before the softmax; a schedule anneals it (Jafari et al. 2021)."""
    alpha: Alpha = 0.9
    """Share of the soft loss; the rest is cross-entropy with the labels."""
    standardise: bool = False
    """Bring both logits to mean 0 and deviation 1 before the soft loss (Sun et al. 2024)."""


class DistillationSpec(
    # Every soft loss, the first one last, as fields go from the last base to the first: a new one is a line here.
    Mse,
    Dist,
    Dkd,
    Kd,
    _Distillation,
):
    """`alpha * soft loss at temperature T + (1 - alpha) * cross-entropy` (Hinton et al. 2015)."""

    @property
    def words(self) -> str:
        """Loss, temperature and alpha, as `dkd T=8→1 alpha=0.9`."""
        loss = "" if self.loss == "kd" else f"{self.loss} "
        return f"{loss}T={in_words(self.temperature)} alpha={in_words(self.alpha)}"

    @property
    def changes(self) -> bool:
        """Whether its temperature or its alpha changes over the steps."""
        return isinstance(self.temperature, Schedule) or isinstance(self.alpha, Schedule)

    @model_validator(mode="after")
    def _must_be_known(self) -> Self:
        if self.loss not in LOSSES and not is_reference(self.loss):
            raise unknown_name("loss", "loss", self.loss, (*LOSSES, *OWN), "losses")
        own = is_reference(self.loss)
        for field, of_own in (("standardise", False), ("options", True), ("version", True)):
            if of_own != own and self._says(field):
                whose = "a loss of your own" if of_own else "the losses of this system"
                raise PydanticCustomError("options", "belongs to {whose} only", {"key": field, "whose": whose})
        for name, loss in LOSSES.items():
            for field in loss.__pydantic_fields__ if name != self.loss else ():
                if self._says(field):
                    raise PydanticCustomError(
                        "options",
                        "belongs to loss '{owner}', not to '{loss}'",
                        {"key": field, "owner": name, "loss": self.loss},
                    )
        return self

    def _says(self, field: str) -> bool:
        """Whether a field has another value than its default."""
        return bool(getattr(self, field) != type(self).__pydantic_fields__[field].default)


#: Soft losses by name.
LOSSES: dict[str, type[SoftLoss]] = {
    loss.loss_name: loss
    for loss in reversed(DistillationSpec.__bases__)
    if issubclass(loss, SoftLoss) and loss.loss_name
}
