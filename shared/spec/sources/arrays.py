"""What a spec says of arrays in a file or folder."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from distill_queue.shared.spec.sources.on_disk import SourceOnDisk


class ArraysSpec(SourceOnDisk):
    """Arrays in an `.npz` or `.safetensors` file, or a folder of `.npy` files, by the names of the arrays.

    `train_inputs` and `train_targets`, `test_inputs` and `test_targets`, also written as `x_train` and `y_train`;
    without a test set `inputs` and `targets`, of which a fixed fifth of every class is kept for testing. Inputs
    `unlabelled_inputs` have no targets.
    """

    source: ClassVar[str] = "arrays"
    listed: ClassVar[dict[str, str]] = {"arrays": "arrays of your own: path: digits.npz, or a folder of .npy files"}

    wanted: ClassVar[str] = "arrays, as inputs.npy and targets.npy"

    name: Literal["arrays"] = "arrays"
    """Arrays."""
    class_names: Annotated[
        tuple[str, ...], Field(strict=False, max_length=100_000, exclude_if=lambda names: not names)
    ] = ()
    """The classes' names in the order of their numbers; without them the numbers."""

    @property
    def known_classes(self) -> tuple[str, ...]:
        """Those that the spec names."""
        return self.class_names

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether a folder's file holds an array."""
        return name.endswith(".npy")
