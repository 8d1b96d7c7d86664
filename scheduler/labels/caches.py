"""Caches of soft labels, as the command line sees them: found, described, verified, exported and imported."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    DistillError,
    InvalidInput,
    InvalidSettings,
    StoreUnavailable,
    store_errors,
)
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.files.folders import draft_folder
from distill_queue.shared.files.given_file import require_path, shown
from distill_queue.shared.plan.recipes import RECIPES, Labels, PrepareData
from distill_queue.shared.plan.stage import SHORTEST_KEY, ArtifactRef, Stage
from distill_queue.shared.results.records import SoftLabelsRecord
from distill_queue.shared.soft_labels.cache import HEADER, SoftLabels, SoftLabelsHeader, block_rows
from distill_queue.shared.soft_labels.encoding import Encoding
from distill_queue.shared.soft_labels.label_file import LabelFile
from distill_queue.shared.soft_labels.statistics import LabelStatistics, better_than_chance
from distill_queue.shared.soft_labels.writer import SoftLabelsWriter
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.store.folder_store import ArtifactStore

#: Kinds of artifacts that are caches.
CACHE_KINDS = tuple(kind for kind, recipe in RECIPES.items() if issubclass(recipe, Labels))


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache, and where its artifact is, if it lies in the store."""

    labels: SoftLabels
    ref: ArtifactRef | None
    store: ArtifactStore

    @classmethod
    def find(cls, name: str, store: ArtifactStore) -> Self:
        """The cache in a folder, or of the key that begins so.

        Raises:
            InvalidSettings: there is none, or there are several.
            ArtifactDamaged: its header or the length of a column is not right.

        """
        here = Path(name)
        with _named(here):
            is_here = (here / HEADER).is_file()
        folder = here if is_here else store.brought(_ref_of(name, store))
        with store_errors(folder):
            refs = (ref for kind in CACHE_KINDS for ref in store.refs(kind))
            ref = next((ref for ref in refs if store.folder(ref).resolve() == folder.resolve()), None)
        return cls(SoftLabels.open(folder), ref, store)

    @property
    def record(self) -> SoftLabelsRecord | None:
        """What its stage said of it.

        Raises:
            ArtifactDamaged: the artifact is not as it was made.

        """
        record = self.store.open(self.ref).record if self.ref else None
        return record if isinstance(record, SoftLabelsRecord) else None

    @property
    def targets(self) -> npt.NDArray[np.int64] | None:
        """The labels `[samples]` of the data that it is of, if these lie in the store."""
        key = self.labels.header.dataset_key
        if key not in {ref.key for ref in self.store.refs("prepare_data")}:
            return None
        dataset = self.store.open(ArtifactRef(kind="prepare_data", key=key))
        return read_array(dataset.path("train_targets.npy"))


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was verified; `passed` is None where it could not be."""

    name: str
    passed: bool | None
    detail: str


def verify(cache: Cache, rows: int, seed: int, tolerance: float) -> Iterator[Check]:
    """Look at all that can be wrong with a cache; what cannot be seen for damage elsewhere has failed."""
    labels, header = cache.labels, cache.labels.header
    size = f"{header.views:,} x {header.samples:,} rows, {header.encoding.name}, {header.size_bytes / 1e6:,.1f} MB"
    yield Check("structure", True, size)
    try:
        labels.verify()
    except ArtifactDamaged as error:
        yield Check("checksums", False, str(error))
        return
    yield Check("checksums", True, f"{header.blocks:,} blocks, each row in one of them")
    for name, check in (
        ("data", _accuracy),
        ("teacher", partial(_recomputed, rows=rows, seed=seed, tolerance=tolerance)),
    ):
        try:
            passed, detail = check(cache)
        except DistillError as error:
            passed, detail = False, str(error)
        yield Check(name, passed, detail)


def _accuracy(cache: Cache) -> tuple[bool | None, str]:
    """Whether the labels are right as often as they were, or, where nobody noted that, more often than by chance."""
    targets, record = cache.targets, cache.record
    if targets is None:
        return None, "the data set is not in the store"
    if len(targets) != len(cache.labels):
        return False, f"labels of {len(cache.labels):,} samples, data of {len(targets):,}"
    accuracy = LabelStatistics.of(cache.labels, targets).accuracy
    detail = f"first class right on {accuracy:.2%} of the samples"
    if record is None:
        if better_than_chance(accuracy, targets):
            return True, detail
        return False, f"{detail}, no more than by chance: the rows are not in the order of the samples"
    same = abs(accuracy - record.accuracy) < 1e-9
    return same, detail + ("" if same else f", and on {record.accuracy:.2%} when it was made")


def _recomputed(cache: Cache, rows: int, seed: int, tolerance: float) -> tuple[bool | None, str]:
    """Whether random rows come out as they are stored."""
    if cache.ref is None:
        return None, "no artifact of the store: nothing says what the teacher is"
    try:
        found = ask({"recompute": cache.ref.model_dump(), "rows": rows, "seed": seed})
    except (InvalidInput, ArtifactMissing) as error:  # There is no teacher, or it is not here.
        return None, str(error)
    detail = (
        f"{found['rows']} random rows (seed {seed}) again: off by {found['error']:.1e} of their largest logit, "
        f"beyond rounding (tolerance {tolerance:g})"
    )
    if found["error"] <= tolerance:
        return True, detail
    return False, f"{detail}: sample {found['sample']:,} of view {found['view']}"


def import_file(path: Path, folder: Path, encoding: Encoding) -> SoftLabels:
    """Make a cache in a new folder of a file's logits.

    Raises:
        InvalidInput: the file cannot be used, or the folder is there.

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


def write_samples(spec: Path, folder: Path) -> dict[str, Any]:
    """Write the training samples of a spec's data set in the order of their soft labels, for a teacher elsewhere.

    Returns:
        What stands in `facts.json`, as it is to stand in the file of the labels.

    Raises:
        DistillError: the data set cannot be had, or the folder is there or cannot be written.

    """
    _require_new(folder)
    dataset, soft_labels = PipelineSpec.seen_in(spec)
    stage = Stage.of(f"prepare {dataset.name}", PrepareData(dataset=dataset))
    seen = {"augmentation": soft_labels.augmentation.model_dump(), "views": soft_labels.views}
    with _named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with draft_folder(folder.parent, f".{folder.name}-") as draft:
            facts: dict[str, Any] = ask(
                {"samples": stage.model_dump(mode="json"), **seen, "folder": str(draft.resolve())}
            )
            (draft / "facts.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
            draft.rename(folder)
    return facts


def ask(request: dict[str, Any]) -> Any:
    """Have the worker's code answer a request, in a process of its own: this one knows no torch.

    Raises:
        InvalidInput: the request cannot be met, or the worker's packages are not installed here.
        ArtifactMissing: an artifact that it needs is not in the store.
        StoreUnavailable: the store, or the folder to write to, does not work for now.
        DistillError: it failed.

    """
    command = [sys.executable, "-P", "-m", "distill_queue.worker.offline"]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if "No module named" in done.stderr:
            raise InvalidInput("the worker's packages are not installed here: pip install '.[worker]'") from None
        raise DistillError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer") from None
    if "error" in answer:
        kinds: dict[str, type[DistillError]] = {
            "input": InvalidInput,
            "missing": ArtifactMissing,
            "store": StoreUnavailable,
        }
        raise kinds.get(answer["kind"], DistillError)(answer["error"])
    return answer["result"]


def random_seed() -> int:
    """A seed for a sample of rows that nobody can have foreseen."""
    return secrets.randbelow(2**31)


@contextmanager
def _named(folder: Path) -> Iterator[None]:
    """Raise what the file system refuses of what the user has named as `InvalidSettings`."""
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
