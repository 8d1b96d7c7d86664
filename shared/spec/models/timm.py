"""What a spec says of a classifier of the library timm."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.commit import Commit
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.part import Options, TimmName, WeightsName


class TimmSpec(ModelFamily):
    """`timm/<name>`, its head, channels and size fitted to the data."""

    family: ClassVar[str] = "timm"
    listed: ClassVar[dict[str, str]] = {
        "timm/<name>": "any classifier of timm, fitted to the data: options: {drop_path_rate: 0.1}, weights: …"
    }

    name: TimmName
    """A classifier of timm's, as `timm/resnet18`."""
    options: Options = Field(default={})
    """Further arguments of `timm.create_model`, as `{drop_path_rate: 0.1}`."""
    weights: WeightsName | None = None
    """Tag of pretrained weights on Hugging Face's hub to start from, as `a1_in1k`: a worker downloads them."""
    revision: Commit | None = None
    """The hash of their commit there, as the page "Files and versions" of `timm/resnet18.a1_in1k` shows it."""

    @model_validator(mode="after")
    def _weights_stay_the_same(self) -> Self:
        if (self.weights is None) != (self.revision is None):
            fault = (
                "weights on the hub have a revision, the hash of their commit: tomorrow they can be others"
                if self.weights
                else "is that of weights on the hub, and there are none"
            )
            raise PydanticCustomError("options", "{fault}", {"key": "revision", "fault": fault})
        return self

    @property
    def is_new(self) -> bool:
        """Always."""
        return True

    @property
    def starts(self) -> bool:
        """Whether weights are named."""
        return self.weights is not None

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a model of this name is of this family."""
        return name.startswith("timm/")
