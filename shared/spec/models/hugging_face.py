"""What a spec says of a model of Hugging Face's library transformers: on their hub, or in a folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.files.content import content_of
from distill_queue.shared.files.data_folders import find_in
from distill_queue.shared.files.hashing import Advance
from distill_queue.shared.spec.commit import REPOSITORY, Commit
from distill_queue.shared.spec.models.family import ModelFamily
from distill_queue.shared.spec.part import Options
from distill_queue.shared.spec.sources.on_disk import a_path

#: How the name of such a model begins in a spec.
PREFIX = "huggingface/"
#: The files of a folder that make a model: what it is, and its weights.
CONFIG, WEIGHTS = "config.json", (".safetensors", ".safetensors.index.json")


def _a_folder_or_id(name: str) -> str:
    a_path(name.removeprefix(PREFIX))
    return name


class HuggingFaceModelSpec(ModelFamily):
    """`huggingface/<folder>`, or `huggingface/<id>` at a commit of the hub: a classifier of texts or of images."""

    family: ClassVar[str] = "hugging_face"
    listed: ClassVar[dict[str, str]] = {
        "huggingface/<folder or id>": "a classifier of transformers, of texts or images: pretrained: true, options: …"
    }

    name: Annotated[str, AfterValidator(_a_folder_or_id), WithJsonSchema({"type": "string", "pattern": f"^{PREFIX}.+"})]
    """`huggingface/` and a folder, from `DISTILL_DATA` or the spec's own folder down; or what the hub calls it."""
    revision: Commit | None = None
    """The hash of a commit of the hub; without it, the name is that of a folder."""
    pretrained: bool = True
    """Whether it starts from the weights that are there; else they are drawn from the training's seed."""
    options: Options = Field(default={})
    """Values in place of those in its `config.json`, as `{num_hidden_layers: 2}`."""
    content: Annotated[str | None, Field(pattern=r"^[0-9a-f]{64}$", exclude_if=lambda content: content is None)] = None
    """SHA-256 of the folder's model, which `distill submit` finds out: another content is refused."""

    @property
    def is_new(self) -> bool:
        """Always."""
        return True

    @property
    def starts(self) -> bool:
        """Whether it starts from weights that are there."""
        return self.pretrained

    @property
    def words(self) -> str:
        """Its name and its options."""
        options = ", ".join(f"{name} {value}" for name, value in self.options.items())
        return f"{self.name}{options and f' ({options})'}"

    @property
    def place(self) -> str:
        """The folder or the hub's name."""
        return self.name.removeprefix(PREFIX)

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether a model of this name is of this family."""
        return name.startswith(PREFIX)

    @staticmethod
    def takes(name: str) -> bool:
        """Whether a folder's file of this name counts."""
        return name == CONFIG or name.endswith(WEIGHTS)

    def find(self, folders: Iterable[Path]) -> Path | None:
        """Where it lies in one of some folders; None where it does not.

        Raises:
            InvalidInput: it lies outside of the folders, or cannot be looked at.

        """
        return find_in(folders, self.place)

    def content_at(self, place: Path, memory: Path, advance: Advance = lambda _: None) -> str:
        """The SHA-256 of the model in a folder.

        Raises:
            InvalidInput: it cannot be read.

        """
        return content_of(place, self.takes, memory, advance)

    @model_validator(mode="after")
    def _a_name_of_the_hub_at_a_commit(self) -> Self:
        if self.revision and not REPOSITORY.fullmatch(self.place):
            raise PydanticCustomError(
                "hub", "is no name of a model on the hub, as huggingface/owner/name", {"key": "name"}
            )
        if self.revision and self.content:
            raise PydanticCustomError(
                "options", "is that of a folder, and a revision is of the hub", {"key": "content"}
            )
        return self
