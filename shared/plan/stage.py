"""Stages: units of work, addressed by the hash of all that their results depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.weights.reading import GivenWeights
from distill_queue.shared.line import Line
from distill_queue.shared.plan.ingredients import RECIPE_VERSIONS, ingredients, revisions
from distill_queue.shared.plan.recipes import Recipe

#: Version of the message that carries a stage; a worker refuses what is newer than itself.
STAGE_FORMAT = 6
#: The version that a pipeline's messages have unless it says what only this version knows (`plan.formats`).
EARLIER_FORMAT = 5
#: Seconds after its time limit at which a stage that did not end by itself is killed.
HARD_LIMIT_SECONDS = 20.0

#: Fewest characters of a key that name something to a command.
SHORTEST_KEY = 4

Key = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ArtifactRef(BaseModel):
    """Where an artifact lives in the store."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str = Field(pattern=r"^[a-z_]+$")
    key: Key

    @property
    def short_key(self) -> str:
        """The first eight characters of the key, for people."""
        return self.key[:8]


class Stage(BaseModel):
    """One unit of work: what a Celery task receives, and all that its result depends on.

    A version that adds a field here which a worker must know gives its stages another format: other fields are passed
    over, but never one of the recipe, which is an ingredient of the key.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = EARLIER_FORMAT
    key: Key
    title: Line
    recipe: Recipe
    inputs: dict[str, ArtifactRef]

    @classmethod
    def of(cls, title: str, recipe: Recipe, /, **inputs: ArtifactRef) -> Self:
        """The stage of a recipe and its inputs, with its key."""
        return cls(key=_key_of(recipe, inputs), title=title, recipe=recipe, inputs=inputs)

    @property
    def of_this_version(self) -> bool:
        """Whether this version of the code would give the stage the same key, and so means the same by it."""
        return self.key == _key_of(self.recipe, self.inputs)

    @property
    def kind(self) -> str:
        """The kind of the stage, as in its task's name."""
        return self.recipe.kind

    @property
    def ref(self) -> ArtifactRef:
        """Where the stage's result lives."""
        return ArtifactRef(kind=self.kind, key=self.key)


#: Stages that one task does together.
Bundle = tuple[Stage, ...]


def bundle_ref(bundle: Bundle) -> ArtifactRef:
    """Where a bundle's unfinished work lives; for a single stage, where the stage's own does."""
    if len(bundle) == 1:
        return bundle[0].ref
    return ArtifactRef(kind="bundle", key=bundle_key(stage.key for stage in bundle))


def bundle_key(keys: Iterable[str]) -> str:
    """The key of several stages' unfinished work, made of the stages' keys."""
    return hashlib.sha256(",".join(sorted(keys)).encode()).hexdigest()


def stage_key(kind: str, recipe: Any, inputs: dict[str, ArtifactRef], revisions: Sequence[str] = ()) -> str:
    """SHA-256 of the canonical JSON of all that a result depends on."""
    ingredients: dict[str, Any] = {
        "kind": kind,
        "version": RECIPE_VERSIONS[kind],
        "recipe": recipe,
        "inputs": {role: ref.key for role, ref in inputs.items()},
    }
    if revisions:
        ingredients["revisions"] = list(revisions)
    text = json.dumps(ingredients, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _key_of(recipe: Recipe, inputs: dict[str, ArtifactRef]) -> str:
    return stage_key(recipe.kind, ingredients(recipe), inputs, revisions(recipe))


def checkpoint_ref(path: Path) -> ArtifactRef:
    """Where the weights in a file live in the store: addressed by their content.

    Raises:
        InvalidSpec: the file cannot be read.

    """
    return _file_ref("checkpoint", path, "teacher.checkpoint")


def weights_ref(weights: GivenWeights) -> ArtifactRef:
    """Where given weights live in the store: addressed by the bytes of the safetensors file that they become.

    Raises:
        InvalidSpec: they cannot be read.

    """
    return ArtifactRef(kind="checkpoint", key=stage_key("checkpoint", {"sha256": weights.sha256()}, {}))


def label_file_ref(path: Path) -> ArtifactRef:
    """Where the soft labels in a file live in the store: addressed by their content.

    Raises:
        InvalidSpec: the file cannot be read.

    """
    return _file_ref("label_file", path, "teacher.soft_labels")


def _file_ref(kind: str, path: Path, field: str) -> ArtifactRef:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidSpec(f"{field}: {path}: {error.strerror or error}") from error
    # The name's end says how the content is read.
    content = {"sha256": digest} if kind == "checkpoint" else {"sha256": digest, "suffix": path.suffix}
    return ArtifactRef(kind=kind, key=stage_key(kind, content, {}))
