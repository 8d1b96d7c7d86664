"""What a spec says of a model's start: weights in a file, or those of a student that was trained before."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.models.torchvision import TorchvisionSpec
from distill_queue.shared.spec.part import Name, SpecPart
from distill_queue.shared.spec.weights import AnyWeights
from distill_queue.shared.spelling import LONGEST_ID

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EarlierModel(SpecPart):
    """A trained model in the store."""

    key: Key
    """Of its training."""
    alike: Annotated[str, Field(exclude_if=lambda alike: not alike)] = ""
    """Hash of all that the training depends on but its epochs, where its state was kept; empty where it was not."""


class EarlierRun(SpecPart):
    """One seed of a student that was trained before, and of its control."""

    seed: int
    """The seed."""
    student: EarlierModel
    """The student's model."""
    control: EarlierModel | None = None
    """Its control's, if there was one."""


class ContinuedStudent(SpecPart):
    """A student of an earlier pipeline, whose training goes on."""

    pipeline: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=LONGEST_ID)]
    """The id of the pipeline."""
    student: Name
    """What the student is called there."""
    runs: Annotated[tuple[EarlierRun, ...], Field(strict=False, exclude_if=lambda runs: not runs)] = ()
    """The trained models, one for each seed, which are looked up when the spec is submitted."""

    def run(self, seed: int) -> EarlierRun | None:
        """The models that were trained with a seed."""
        return next((run for run in self.runs if run.seed == seed), None)


class Start(SpecPart):
    """What a training begins with in place of weights that are drawn; a recipe's input `start` has it."""

    mode: Literal["weights", "state"]
    """Weights alone; or all that the rest of an earlier training depends on, which then has more epochs."""
    file: str = ""
    """The name of the user's file; like all that follows no part of a key."""
    pipeline: str = ""
    student: str = ""
    why: str = ""
    """Why the training that is continued does not simply go on, but a new one starts from its weights."""

    @property
    def left_out_of_key(self) -> frozenset[str]:
        """All but the mode: what is begun with is an input of the stage."""
        return frozenset({"file", "pipeline", "student", "why"})

    @property
    def words(self) -> str:
        """What it is, as part of a list."""
        if self.file:
            return f"from {self.file}"
        return f"{'goes on with' if self.mode == 'state' else 'from'} {self.student} of {self.pipeline}"


def require_one_start(
    model: ModelFamily, weights: AnyWeights | None, continues: ContinuedStudent | None = None
) -> None:
    """Refuse a model that starts from weights of several kinds.

    Raises:
        PydanticCustomError: it does.

    """
    if weights is not None and continues is not None:
        raise PydanticCustomError("options", "starts from a file, or continues a student: not both", {"key": "weights"})
    if (weights or continues) is not None and isinstance(model, TorchvisionSpec) and model.weights:
        key = "continues" if weights is None else "weights"
        raise PydanticCustomError(
            "options", "starts from torchvision's weights already: leave out model.weights", {"key": key}
        )
