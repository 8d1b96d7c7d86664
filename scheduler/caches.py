"""Caches of soft labels, as the command line sees them: found, described, verified, exported and imported."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from shared.encoding import Encoding
from shared.errors import (
    ArtifactDamaged,
    ArtifactMissing,
    DistillError,
    InvalidInput,
    InvalidSettings,
    store_errors,
)
from shared.label_file import LabelFile
from shared.label_statistics import LabelStatistics
from shared.recipes import PrepareData
from shared.records import SoftLabelsRecord
from shared.soft_labels import HEADER, SoftLabels, SoftLabelsHeader, block_rows
from shared.soft_labels_writer import LABELS, SoftLabelsWriter
from shared.spec import DatasetSpec
from shared.stage import ArtifactRef, Stage
from shared.store import MANIFEST, Artifact, ArtifactStore

#: Kinds of artifacts that are caches.
KINDS = ("soft_labels", "import_soft_labels")
#: Fewest characters of a key that name a cache.
SHORTEST_KEY = 4


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache, and the artifact that it is, if it lies in the store."""

    labels: SoftLabels
    artifact: Artifact | None
    store: ArtifactStore

    @classmethod
    def find(cls, name: str, store: ArtifactStore) -> Self:
        """The cache in a folder, or of the key that begins so.

        Raises:
            InvalidSettings: there is none, or there are several.
            ArtifactDamaged: it is not as it was made.

        """
        here = Path(name)
        folder = here if (here / HEADER).is_file() else store.folder(_ref_of(name, store))
        refs = (ref for kind in KINDS for ref in store.refs(kind))
        ref = next((ref for ref in refs if store.folder(ref).resolve() == folder.resolve()), None)
        return cls(SoftLabels.open(folder), store.open(ref) if ref else None, store)

    @property
    def record(self) -> SoftLabelsRecord | None:
        """What its stage said of it."""
        record = self.artifact.manifest.record if self.artifact else None
        return record if isinstance(record, SoftLabelsRecord) else None

    @property
    def targets(self) -> np.ndarray[Any, np.dtype[np.int64]] | None:
        """The labels `[samples]` of the data that it is of, if these lie in the store."""
        try:
            dataset = self.store.open(ArtifactRef(kind="prepare_data", key=self.labels.header.dataset_key))
        except (ArtifactMissing, ValueError):
            return None
        found: np.ndarray[Any, np.dtype[np.int64]] = np.load(dataset.path("train_targets.npy"))
        return found


@dataclass(frozen=True, slots=True)
class Check:
    """Something that was verified; `passed` is None where it could not be."""

    name: str
    passed: bool | None
    detail: str


def verify(cache: Cache, rows: int, seed: int, tolerance: float) -> Iterator[Check]:
    """Look at all that can be wrong with a cache."""
    labels, header = cache.labels, cache.labels.header
    size = f"{header.views:,} x {header.samples:,} rows, {header.encoding.name}, {header.size_bytes / 1e6:,.1f} MB"
    yield Check("structure", True, size)
    try:
        labels.verify()
    except ArtifactDamaged as error:
        yield Check("checksums", False, str(error))
        return
    yield Check("checksums", True, f"{header.blocks:,} blocks, each row in one of them")
    targets = cache.targets
    if targets is None:
        yield Check("data", None, "the data set is not in the store")
    elif len(targets) != len(labels):
        yield Check("data", False, f"labels of {len(labels):,} samples, data of {len(targets):,}")
        return
    else:
        yield _accuracy(LabelStatistics.of(labels, targets), cache.record)
    yield _recomputed(cache, rows, seed, tolerance)


def _accuracy(found: LabelStatistics, record: SoftLabelsRecord | None) -> Check:
    detail = f"first class right on {found.accuracy:.2%} of the samples"
    if record is None:
        return Check("data", True, detail)
    same = abs(found.accuracy - record.accuracy) < 1e-9
    return Check("data", same, detail + ("" if same else f", and on {record.accuracy:.2%} when it was made"))


def _recomputed(cache: Cache, rows: int, seed: int, tolerance: float) -> Check:
    name = "teacher"
    if cache.artifact is None:
        return Check(name, None, "no artifact of the store: nothing says what the teacher is")
    ref = ArtifactRef(kind=cache.artifact.manifest.kind, key=cache.artifact.manifest.key)
    try:
        found = ask({"recompute": ref.model_dump(), "rows": rows, "seed": seed})
    except DistillError as error:
        return Check(name, None, str(error))
    detail = (
        f"{found['rows']} random rows (seed {seed}) again: off by {found['error']:.1e} of their largest logit, "
        f"beyond rounding (tolerance {tolerance:g})"
    )
    if found["error"] <= tolerance:
        return Check(name, True, detail)
    return Check(name, False, f"{detail}: sample {found['sample']:,} of view {found['view']}")


def import_file(path: Path, folder: Path, encoding: Encoding) -> SoftLabels:
    """Make a cache in a new folder of a file's logits.

    Raises:
        InvalidInput: the file cannot be used, or the folder is there.

    """
    if folder.exists():
        raise InvalidSettings(f"{folder}: is there already")
    with LabelFile.open(path) as file:
        facts = file.facts.model_dump()
        facts["class_names"] = facts["class_names"] or tuple(map(str, range(file.classes)))
        header = SoftLabelsHeader(
            views=file.views,
            samples=file.samples,
            encoding=encoding,
            block_rows=block_rows(file.classes),
            **facts,
        )
        with store_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            writer = SoftLabelsWriter.begin(draft / "draft", header)
            for block, logits in file.blocks(header):
                writer.write(block, logits)
            writer.seal()
            with store_errors(folder):
                (draft / "draft" / LABELS).rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return SoftLabels.open(folder)


def write_samples(dataset: DatasetSpec, folder: Path) -> dict[str, Any]:
    """Write a data set's training samples in the order of their soft labels, for a teacher elsewhere.

    Returns:
        What stands in `facts.json`: `dataset_key` and `class_names`.

    Raises:
        DistillError: the data set cannot be had, or the folder cannot be written.

    """
    stage = Stage.of(f"prepare {dataset.name}", PrepareData(dataset=dataset))
    packed = Path(ask({"prepare": stage.model_dump(mode="json")}))
    record = json.loads((packed / MANIFEST).read_text())["record"]
    facts = {"dataset_key": stage.key, "class_names": record["class_names"]}
    with store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("inputs", "targets"):
            shutil.copyfile(packed / f"train_{name}.npy", folder / f"{name}.npy")
        (folder / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def ask(request: dict[str, Any]) -> Any:
    """Have the worker's code answer a request, in a process of its own: this one knows no torch.

    Raises:
        InvalidInput: the request cannot be met.
        DistillError: it failed, or the worker's packages are not installed here.

    """
    command = [sys.executable, "-m", "worker.offline"]
    done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if "No module named" in done.stderr:
            raise DistillError("the worker's packages are not installed here: pip install '.[worker]'") from None
        raise DistillError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer") from None
    if "error" in answer:
        raise (InvalidInput if answer["input"] else DistillError)(answer["error"])
    return answer["result"]


def random_seed() -> int:
    """A seed for a sample of rows that nobody can have foreseen."""
    return secrets.randbelow(2**31)


def _ref_of(name: str, store: ArtifactStore) -> ArtifactRef:
    known = [ref for kind in KINDS for ref in store.refs(kind)]
    found = [ref for ref in known if len(name) >= SHORTEST_KEY and ref.key.startswith(name)]
    if len(found) == 1:
        return found[0]
    keys = ", ".join(ref.short_key for ref in (found or known)[:10]) or "none"
    what = "several keys begin so" if found else "no folder of a cache, and no key of one in the store"
    raise InvalidSettings(f"{name}: {what} (in {store.root}: {keys})")
