"""What is known of every family of models, and what most families have in common."""

from __future__ import annotations

from typing import ClassVar

from distill_queue.shared.files.weights_file import Shape
from distill_queue.shared.spec.part import SpecPart


class ModelFamily(SpecPart):
    """A family of models: a subclass has its options as fields, and stands in `shared.spec.model`."""

    #: What a worker's module in `worker.models` is called that builds them.
    family: ClassVar[str]
    #: The names that a spec may give, each with what it is, as `distill models` lists them.
    listed: ClassVar[dict[str, str]]
    #: Whether all multiply-adds are in linear and convolutional layers, whose count takes no compiler.
    counted_by_layers: ClassVar[bool] = False

    # Each family's own field narrows it.
    name: str

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a model of this name is of this family."""
        return name in cls.listed

    @property
    def is_new(self) -> bool:
        """Whether only versions that know format 6 of stages read it."""
        return False

    @property
    def starts(self) -> bool:
        """Whether it starts from weights that its library has, or a folder of its own."""
        return False

    @property
    def stackable(self) -> bool:
        """Whether several of one shape can be trained as one, as `worker.training.stack` does."""
        return False

    @property
    def words(self) -> str:
        """What it is, as short as tables need it."""
        return self.name

    def tensors(self, shape: tuple[int, ...] | None, classes: int | None) -> dict[str, Shape] | None:  # noqa: ARG002
        """The names and shapes of its weights in torch's order; None where only a worker knows them.

        Args:
            shape: of one sample; None where only a worker knows it.
            classes: how many; None where only a worker knows it.

        """
        return None
