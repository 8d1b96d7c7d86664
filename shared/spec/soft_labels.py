"""What a spec says of the soft labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.catalog import Dtype
from distill_queue.shared.spec.augmentation import AugmentationSpec
from distill_queue.shared.spec.part import SpecPart


def _auto_or_workers(value: Any) -> Any:
    if value == "auto" or (type(value) is int and 1 <= value <= 1_000):
        return value
    raise PydanticCustomError("shards", "input should be 'auto' or a number of workers from 1 to 1,000")


class SoftLabelsSpec(SpecPart):
    """How the teacher's logits are stored, and on which views of the samples they are computed."""

    mode: Literal["cached", "online"] = "cached"
    """`cached` computes them once and stores them; `online` has the teacher answer in each of the student's steps."""
    dtype: Dtype = "float16"
    """How a logit is stored; `uint8` has a scale for each row."""
    top_k: int | None = Field(default=None, ge=1, le=65_536)
    """How many of a sample's largest logits are kept, with the log-sum-exp of all; none: all of them."""
    views: int = Field(default=1, ge=1, le=10_000)
    """Views of each sample; in epoch e a student sees view e modulo this, the very pixels that its labels are of.
    With `mode: online`, each epoch sees a view of its own."""
    augmentation: AugmentationSpec = AugmentationSpec()
    """What makes one view differ from another."""
    shards: Annotated[Literal["auto"] | int, BeforeValidator(_auto_or_workers)] = "auto"
    """How many workers, up to 1,000, share the labelling: `auto` asks for help where it pays."""

    @model_validator(mode="after")
    def _views_differ(self) -> Self:
        if self.views > 1 and self.augmentation.changes_nothing:
            raise PydanticCustomError(
                "options", "{views} views would be the same: set an augmentation", {"key": "views", "views": self.views}
            )
        return self

    @model_validator(mode="after")
    def _stored_where_how_is_said(self) -> Self:
        if self.online:
            for name in ("dtype", "top_k", "views", "shards"):
                if name in self.model_fields_set:
                    raise PydanticCustomError(
                        "options", "with 'mode: online' no soft labels are stored: remove '{key}'", {"key": name}
                    )
        return self

    @property
    def online(self) -> bool:
        """Whether the teacher answers in each step, and nothing is stored."""
        return self.mode == "online"

    @property
    def seen_views(self) -> int | None:
        """How many views a student and its control see in turn; None where each epoch has one of its own."""
        return None if self.online else self.views
