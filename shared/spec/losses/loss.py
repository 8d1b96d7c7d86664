"""What is known of every soft loss."""

from __future__ import annotations

from typing import ClassVar

from distill_queue.shared.spec.part import SpecPart


class SoftLoss(SpecPart):
    """A soft loss: a subclass has its options as fields, and is a base of `shared.spec.distillation`'s class.

    The options of all losses stand side by side in a spec, so no two have one of the same name. One that comes later
    has a default and `exclude_if` it, so that workers of earlier versions read what does not use it.
    """

    #: What a spec calls it, and a worker's module in `worker.losses`; empty of what is no loss by itself.
    loss_name: ClassVar[str] = ""
    #: What it is, as `distill losses` says it.
    about: ClassVar[str] = ""
