"""What a spec says of a training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.part import SpecPart


class TrainingSpec(SpecPart):
    """How a model is trained; the defaults suit small images."""

    epochs: int = Field(default=5, ge=1, le=100_000)
    """How often each sample is seen."""
    batch_size: int = Field(default=256, ge=1, le=1_048_576)
    """Samples in a step; a single one left at the end of an epoch joins the step before it where the model needs it."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    """`sgd` has Nesterov's momentum of 0.9."""
    learning_rate: float = Field(default=1e-3, gt=0.0, le=1e3)
    """The learning rate, or the highest one where the schedule changes it."""
    weight_decay: float = Field(default=0.0, ge=0.0, le=10.0)
    """Weight decay of matrices and kernels; norms and biases have none."""
    schedule: Literal["constant", "one_cycle", "cosine"] = "one_cycle"
    """How the learning rate changes over the steps."""
    warmup: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the steps in which the learning rate rises from 0, before a constant or cosine schedule."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of a hard label that is spread over all classes."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """A teacher's views; a student and its control see those of the soft labels."""
    keep: Literal["last", "best"] = "last"
    """`best` keeps the weights of the epoch with the highest accuracy on held-out samples."""
    patience: int | None = Field(default=None, ge=1)
    """Epochs without a better accuracy on held-out samples after which a training ends; none: never."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the initial weights, the order of the samples and dropout."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto` is bfloat16 where the device computes it natively and, by a probe, rightly for the model, else float32."""

    @property
    def chooses(self) -> bool:
        """Whether epochs are compared on held-out samples."""
        return self.keep == "best" or self.patience is not None
