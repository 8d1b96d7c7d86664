"""What a spec says of weights that a user has."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from distill_queue.shared.spec.part import SpecPart


class WeightsFile(SpecPart):
    """A file of weights that holds several, and which of them is meant."""

    file: str
    """Path of the weights, relative to the spec's own folder."""
    part: Annotated[str, Field(min_length=1, max_length=1_000)] | None = None
    """The mapping of tensors in the file, as `ema` or `model.state_dict`, where there are several."""


#: A path, or a path and more.
AnyWeights = Annotated[
    Annotated[str, Tag("path")] | Annotated[WeightsFile, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict | WeightsFile) else "path"),
]


def weights_file(given: AnyWeights) -> WeightsFile:
    """Weights that a user has, said in full."""
    return WeightsFile(file=given) if isinstance(given, str) else given
