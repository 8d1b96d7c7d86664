"""Caches of soft labels: finds them by folder or key, imports them from a file, and writes their samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.scheduler.offline import ask
from distill_queue.shared.errors import InvalidSettings, store_errors
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.files.given_file import require_path, shown
from distill_queue.shared.plan.recipes import RECIPES, Labels, PrepareData
from distill_queue.shared.plan.stage import SHORTEST_KEY, ArtifactRef, Stage
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.settings import Settings
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels, SoftLabelsHeader, block_rows
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.label_file import LabelFile
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.soft_labels import SoftLabelsSpec
from distill_queue.shared.store.store import ArtifactStore

#: Kinds of artifacts that are caches.
CACHE_KINDS = tuple(kind for kind, recipe in RECIPES.items() if issubclass(recipe, Labels))


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache, and the reference of its artifact if it lies in the store."""

    labels: SoftLabels
    ref: ArtifactRef | None
    store: ArtifactStore

    @classmethod
    def find(cls, name: str, store: ArtifactStore) -> Self:
        """The cache in a folder, or the one whose key begins with a name.

        Raises:
            InvalidSettings: there is no such cache, or there are several.
            ArtifactDamaged: its header or the length of a column is not right.

        """
        here = Path(name)
        with _named(here):
            is_here = (here / HEADER).is_file()
        folder = here if is_here else store.local_folder(_ref_of(name, store))
        with store_errors(folder):
            refs = (ref for kind in CACHE_KINDS for ref in store.refs(kind))
            ref = next((ref for ref in refs if store.folder(ref).resolve() == folder.resolve()), None)
        return cls(SoftLabels.open(folder), ref, store)

    @property
    def record(self) -> SoftLabelsRecord | None:
        """The record of the stage that made the cache.

        Raises:
            ArtifactDamaged: a file of the artifact is missing or altered.

        """
        record = self.store.open(self.ref).record if self.ref else None
        return record if isinstance(record, SoftLabelsRecord) else None

    @property
    def targets(self) -> npt.NDArray[np.int64] | None:
        """The labels `[samples]` of the cache's data set, if the data set lies in the store."""
        key = self.labels.header.dataset_key
        if key not in {ref.key for ref in self.store.refs("prepare_data")}:
            return None
        dataset = self.store.open(ArtifactRef(kind="prepare_data", key=key))
        return read_array(dataset.path("train_targets.npy"))


def import_file(path: Path, folder: Path, encoding: Encoding) -> SoftLabels:
    """Make a cache in a new folder from a file's logits.

    Raises:
        InvalidInput: the file cannot be used, or the folder exists already.

    """
    _require_new(folder)
    require_path(path)
    with _named(path), LabelFile.open(path) as file:
        facts = file.facts.model_dump()
        facts["class_names"] = facts["class_names"] or tuple(map(str, range(file.classes)))
        header = SoftLabelsHeader(
            views=file.views,
            samples=file.samples,
            encoding=encoding,
            block_rows=block_rows(file.classes),
            **facts,
        )
        with _named(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with draft_folder(folder.parent, f".{folder.name}-") as draft:
                writer = SoftLabelsWriter.begin(draft, header)
                for block, logits in file.blocks(header):
                    writer.write(block, logits)
                writer.seal().folder.rename(folder)
    return SoftLabels.open(folder)


def write_samples(
    dataset: DatasetSpec, soft_labels: SoftLabelsSpec, folder: Path, settings: Settings
) -> dict[str, Any]:
    """Write the training samples of a data set in the order of their soft labels, for a teacher elsewhere.

    Args:
        dataset: the data set.
        soft_labels: the views that the samples are seen in.
        folder: a new one.
        settings: with the folders of data.

    Returns:
        The contents of `facts.json`, which the file of labels has to repeat.

    Raises:
        DistillError: the data set cannot be had, or the folder exists already or cannot be written.

    """
    _require_new(folder)
    stage = Stage.of(f"prepare {dataset.called}", PrepareData(dataset=dataset))
    seen = {"augmentation": soft_labels.augmentation.model_dump(), "views": soft_labels.views}
    with _named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with draft_folder(folder.parent, f".{folder.name}-") as draft:
            facts: dict[str, Any] = ask(
                {"samples": stage.model_dump(mode="json"), **seen, "folder": str(draft.resolve())}, settings
            )
            (draft / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            draft.rename(folder)
    return facts


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Raise errors of the file system about a folder that the user named as `InvalidSettings`."""
    try:
        yield
    except OSError as error:
        raise InvalidSettings(f"{shown(folder)}: {error.strerror or error}") from error


def _require_new(folder: Path) -> None:
    with _named(folder):
        require_path(folder)
        if folder.exists():
            raise InvalidSettings(f"{folder}: is there already")


def _ref_of(name: str, store: ArtifactStore) -> ArtifactRef:
    known, called = [ref for kind in CACHE_KINDS for ref in store.refs(kind)], shown(name)
    if len(name) < SHORTEST_KEY:
        raise InvalidSettings(f"{called}: no folder of a cache; of a key give at least {SHORTEST_KEY} characters")
    found = [ref for ref in known if ref.key.startswith(name)]
    if len(found) == 1:
        return found[0]
    keys = ", ".join(ref.short_key for ref in (found or known)[:10]) or "none"
    what = "several keys begin so" if found else "no folder of a cache, and no key of one in the store"
    raise InvalidSettings(f"{called}: {what} (in {store}: {keys})")
