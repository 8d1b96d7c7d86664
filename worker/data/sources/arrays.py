"""Arrays in a file or folder, by their names: `.npz`, `.safetensors` or `.npy`."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from distill_queue.shared.errors import ArtifactDamaged, InvalidSpec
from distill_queue.shared.files.array_file import HEADER_ERRORS, read_array, require_honest
from distill_queue.shared.files.files import NoArchive, NoFile, opened_archive
from distill_queue.shared.files.weights_file import opened_tensors
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.sources.arrays import ArraysSpec
from distill_queue.worker.data.arrays import Arrays, require_finite
from distill_queue.worker.data.given import inputs_of, names_of, targets_of
from distill_queue.worker.data.reading import Reading

#: What each array may be called, beside its own name.
OTHER_NAMES = {
    "train_inputs": ("x_train", "X_train", "train_x", "train_images"),
    "train_targets": ("y_train", "train_y", "train_labels"),
    "test_inputs": ("x_test", "X_test", "test_x", "test_images"),
    "test_targets": ("y_test", "test_y", "test_labels"),
    "inputs": ("x", "X", "data", "images"),
    "targets": ("y", "labels", "target"),
    "unlabelled_inputs": ("x_unlabelled", "unlabelled"),
    "class_names": ("classes",),
}
_WITH_A_TEST_SET = ("train_inputs", "train_targets", "test_inputs", "test_targets")
_WITHOUT_A_TEST_SET = ("inputs", "targets")

Found = dict[str, Array]


def read(dataset: ArraysSpec, reading: Reading) -> Arrays:
    """Read the arrays at a path.

    Raises:
        InvalidSpec: they cannot be read, or are no samples of a classification.
        StageFailed: they are not what was submitted.

    """
    place = reading.place(dataset)
    content = reading.content(dataset)
    there = _all_in(place, dataset.path)
    found = _by_our_names(there, dataset.path)
    wanted = _WITHOUT_A_TEST_SET if found.keys() & set(_WITHOUT_A_TEST_SET) else _WITH_A_TEST_SET
    if missing := [name for name in wanted if name not in found]:
        raise InvalidSpec(
            f"{dataset.path}: no array '{missing[0]}' (found: {', '.join(there) or 'nothing'}; wanted: "
            f"{', '.join(_WITH_A_TEST_SET)}, or {' and '.join(_WITHOUT_A_TEST_SET)})"
        )
    arrays = (_with_test_set if wanted == _WITH_A_TEST_SET else _without_test_set)(dataset, found)
    return replace(arrays, content=content)


def _with_test_set(dataset: ArraysSpec, found: Found) -> Arrays:
    """Training and test samples as they are given, and those without a label after the training samples."""
    (train_inputs, train_targets), (test_inputs, test_targets) = (
        (
            inputs_of(f"{dataset.path}: {split}", found[f"{split}_inputs"]),
            targets_of(f"{dataset.path}: {split}", split, found[f"{split}_targets"]),
        )
        for split in ("train", "test")
    )
    if (unlabelled := found.get("unlabelled_inputs")) is not None:
        train_inputs = np.concatenate((train_inputs, inputs_of(f"{dataset.path}: unlabelled", unlabelled)))
        missing = np.full(len(unlabelled), -1, dtype=np.int64)
        train_targets = np.concatenate((train_targets, missing))
    names = _names(dataset, found, train_targets, test_targets)
    return Arrays.of_own(dataset.path, (train_inputs, train_targets), (test_inputs, test_targets), names)


def _without_test_set(dataset: ArraysSpec, found: Found) -> Arrays:
    """A fixed fifth of each class is kept for testing."""
    inputs = inputs_of(f"{dataset.path}:", found["inputs"])
    targets = targets_of(f"{dataset.path}:", "train", found["targets"])
    if len(inputs) != len(targets):
        raise InvalidSpec(f"{dataset.path}: {len(inputs):,} inputs and {len(targets):,} targets")
    require_finite(f"{dataset.path}: an input", inputs)  # By its row in the file.
    split = Arrays.stratified(inputs, targets, ())
    return _with_test_set(dataset, found | {name: getattr(split, name) for name in _WITH_A_TEST_SET})


def _names(dataset: ArraysSpec, found: Found, train_targets: Array, test_targets: Array) -> tuple[str, ...]:
    given = dataset.class_names or found.get("class_names", np.array([], dtype=str)).tolist()
    return names_of(dataset.path, given, train_targets, test_targets)


def _all_in(place: Path, called: str) -> Found:
    """The arrays at a place, by their names there.

    Raises:
        InvalidSpec: it holds none, or they cannot be read.

    """
    try:
        if place.is_dir():
            return {file.stem: read_array(file, mapped=True) for file in sorted(place.glob("*.npy"))}
        if place.suffix == ".npz":
            with opened_archive(place) as archive:
                names = [name for name in archive.namelist() if name.endswith(".npy")]
                return {name.removesuffix(".npy"): _member(archive, name) for name in names}
        if place.suffix == ".safetensors":
            with opened_tensors(place) as file:
                return {name: file.get_tensor(name) for name in sorted(file.keys())}
    except (
        ArtifactDamaged,
        NoFile,
        NoArchive,
        zipfile.BadZipFile,
        zlib.error,
        SafetensorError,
        *HEADER_ERRORS,
    ) as error:
        raise InvalidSpec(f"{called}: {error}") from error
    raise InvalidSpec(f"{called}: arrays are read from .npz and .safetensors files, and folders of .npy files")


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    """An array in an archive; its header is compared with its length before memory is taken for it."""
    with archive.open(name) as file:
        try:
            require_honest(file, archive.getinfo(name).file_size)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _by_our_names(found: Found, called: str) -> Found:
    """The arrays that are known, by our names for them.

    Raises:
        InvalidSpec: one array is there under two names.

    """
    known: Found = {}
    for ours, others in OTHER_NAMES.items():
        there = [name for name in (ours, *others) if name in found]
        if len(there) > 1:
            raise InvalidSpec(f"{called}: {' and '.join(there)} are two names of one array")
        if there:
            known[ours] = found[there[0]]
    return known
