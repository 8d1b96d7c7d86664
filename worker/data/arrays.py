"""Arrays: a whole data set as it was read, and how it is written and described."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import InvalidSpec, store_errors
from distill_queue.shared.files.array_file import write_array
from distill_queue.shared.results.records import DatasetRecord, DataWarning, InputRecord
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.sources.normalise import NormaliseInputs
from distill_queue.worker.data import checks as data_checks
from distill_queue.worker.data import normalisation, records
from distill_queue.worker.data.split import pieces
from distill_queue.worker.data.statistics import Statistics

#: Share of the samples kept for testing, where a data set has no test set of its own.
TEST_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set as arrays: inputs `[samples, *shape]`, targets `[samples]`, -1 where one has no label.

    Where a sample has several inputs, these are the fields of records `[samples]`, as `data.records` makes them.
    """

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    class_names: tuple[str, ...]
    #: Rows of the training samples that are held out; none where nothing is.
    held_out: Array | None = None
    #: What is allowed in them and seldom meant.
    warnings: tuple[DataWarning, ...] = ()
    #: Whether they are the user's own, which are looked at more closely.
    own: bool = False
    #: How the inputs are to reach models.
    normalise: NormaliseInputs = "data"
    #: SHA-256 of the files that they were read from; none where these are not the user's.
    content: str | None = None
    #: The names of a sample's numbers, as of a table's columns; none where they are counted.
    input_names: tuple[str, ...] = ()
    #: Small files that the packed set is to have, by their names: what one needs to make inputs of new samples.
    files: Mapping[str, bytes] = field(default_factory=dict)
    #: The number of the token that fills up short texts; None where it is not known.
    padding: int | None = None

    @classmethod
    def stratified(cls, inputs: Array, targets: Array, class_names: tuple[str, ...]) -> Self:
        """A set without a test set of its own: a fixed split with the same share of every class in the test set."""
        test = first_of_each_class(targets, TEST_SHARE)
        return cls(inputs[~test], targets[~test], inputs[test], targets[test], class_names)

    @classmethod
    def of_own(
        cls,
        name: str,
        train: tuple[Array, Array],
        test: tuple[Array, Array],
        class_names: tuple[str, ...],
        held_out: Array | None = None,
    ) -> Self:
        """The user's own samples, checked, with warnings of what is odd about them.

        Args:
            name: of the data set, with which messages begin.
            train: inputs and targets, those that are held out among them.
            test: inputs and targets.
            class_names: in the order of the classes' numbers.
            held_out: rows of the training samples, if the user says which.

        Raises:
            InvalidSpec: as for `checked`.

        """
        arrays = cls(*train, *test, class_names, held_out).checked(name)
        learned = train[1].copy()
        learned[[] if held_out is None else held_out] = -1  # As the model sees none of their labels.
        return replace(arrays, warnings=tuple(data_checks.check(train[0], learned, *test, class_names)), own=True)

    def checked(self, name: str) -> Self:
        """The same arrays, once it is clear that they are samples of a classification.

        Args:
            name: of the data set, with which messages begin.

        Raises:
            InvalidSpec: they are none; the message says what is wrong.

        """
        if not all(isinstance(each, str) for each in self.class_names) or len(self.class_names) < 2:
            raise InvalidSpec(f"{name}: class_names must be two or more texts")
        if len(set(self.class_names)) != len(self.class_names):
            raise InvalidSpec(f"{name}: two classes have one name")
        for split in ("train", "test"):
            inputs, targets = getattr(self, f"{split}_inputs"), getattr(self, f"{split}_targets")
            for called, each in records.by_name(inputs).items():
                _require_numbers(f"{name}: {split} inputs{called and f' {called}'}", each, named=bool(called))
            if len(inputs) != len(targets):
                raise InvalidSpec(f"{name}: {split} has {len(inputs)} inputs and {len(targets)} targets")
            if targets.max() >= (classes := len(self.class_names)):
                row = int((targets >= classes).argmax())
                raise InvalidSpec(
                    f"{name}: a {split} target is outside of the {classes} classes: row {row:,} is {targets[row]:,}"
                )
            for called, each in records.by_name(inputs).items():
                require_finite(f"{name}: a {split} input{called and f' {called}'}", each)
        train, test = self.train_inputs, self.test_inputs
        if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
            shapes = f"{train.dtype} {train.shape[1:]} and {test.dtype} {test.shape[1:]}"
            raise InvalidSpec(f"{name}: a training sample and a test sample differ: {shapes}")
        return self

    def labelled_only(self, samples: int) -> Self:
        """The same with the labels of so many training samples, evenly over the classes; the others lose theirs.

        Raises:
            InvalidSpec: there are not so many.

        """
        train, held_out = self._train_and_held_out
        labelled = train[self.train_targets[train] >= 0]
        if samples > len(labelled):
            having = "" if len(labelled) == len(train) else " that have a label"
            raise InvalidSpec(f"dataset.labelled: {samples:,} of {len(labelled):,} training samples{having}")
        targets = np.full_like(self.train_targets, -1)
        chosen = labelled[_ranks(self.train_targets)[labelled].argsort(kind="stable")[:samples]]
        kept = np.concatenate((chosen, held_out))
        targets[kept] = self.train_targets[kept]
        return replace(self, train_targets=targets)

    def holding_out(self, share: float) -> Self:
        """The same with a share of each class's labelled training samples held out.

        Raises:
            InvalidSpec: that is none, or some are held out already.

        """
        if self.held_out is not None:
            raise InvalidSpec(f"dataset.validation: {share:g}, and the data have validation samples already")
        held_out = first_of_each_class(self.train_targets, share).nonzero()[0]
        if not len(held_out):
            raise InvalidSpec(f"dataset.validation: {share:g} of each class's labelled samples is less than one sample")
        return replace(self, held_out=held_out)

    def save(self, folder: Path) -> DatasetRecord:
        """Write the arrays as `.npy` files and describe them; piece by piece, as they may not fit into memory."""
        train, held_out = self._train_and_held_out
        _write(folder, "train", self.train_inputs, self.train_targets, train)
        if len(held_out):
            _write(folder, "validation", self.train_inputs, self.train_targets, held_out)
        _write(folder, "test", self.test_inputs, self.test_targets, np.arange(len(self.test_targets)))
        for name, content in self.files.items():
            with store_errors(folder / name):
                (folder / name).write_bytes(content)
        return self.describe()

    def describe(self) -> DatasetRecord:
        """Return the record of the arrays; write nothing."""
        train, held_out = self._train_and_held_out
        inputs: dict[str, InputRecord] = {}
        warnings = list(self.warnings)
        for name, values in records.by_name(self.train_inputs).items():
            statistics = Statistics.of(values, train, self.input_names)
            odd = [*statistics.warnings(images=values.ndim == 4)]
            if self.own:
                odd += statistics.far_values(values, records.by_name(self.test_inputs)[name])
            kind = {"b": "flags", "i": "tokens"}.get(values.dtype.kind, "numbers")
            shape, mean, std = values.shape[1:], statistics.mean, statistics.scale
            facts: dict[str, Any] = {"kind": kind, "shape": shape, "mean": mean, "std": std}
            if kind == "tokens" and name:
                of_test = records.by_name(self.test_inputs)[name]
                facts |= {"largest": max(int(values.max()), int(of_test.max())), "padding": self.padding}
            inputs[name] = InputRecord.model_validate(facts)
            warnings += [DataWarning(kind=each.kind, text=f"{name}: {each.text}") for each in odd] if name else odd
        only = inputs.pop("", None)  # What has no name is the only input.
        record = DatasetRecord(
            shape=self.train_inputs.shape[1:],
            class_names=self.class_names,
            train_samples=len(train),
            labelled_samples=int((self.train_targets[train] >= 0).sum()),
            validation_samples=len(held_out),
            test_samples=len(self.test_inputs),
            content=self.content,
            mean=only.mean if only else (),
            std=only.std if only else (),
            inputs=inputs,
            warnings=tuple(warnings),
        )
        return normalisation.stated(self.normalise, record, bytes_=self.train_inputs.dtype == np.uint8)

    @property
    def _train_and_held_out(self) -> tuple[Array, Array]:
        """Rows of the training samples that stay, and of those that are held out."""
        train = np.arange(len(self.train_targets))
        held_out = train[:0] if self.held_out is None else self.held_out
        return np.setdiff1d(train, held_out, assume_unique=True), held_out


def _require_numbers(whose: str, inputs: Array, *, named: bool) -> None:
    """Refuse inputs that no model takes; those with a name may be flags, and a single value a sample.

    Raises:
        InvalidSpec: they are no numbers, or there are none.

    """
    usable = inputs.dtype.kind in ("uifb" if named else "uif") and inputs.dtype.itemsize <= 8 and inputs.dtype.isnative
    if not usable or inputs.ndim < (1 if named else 2) or 0 in inputs.shape:
        what = f"{inputs.dtype.str} {inputs.shape}"
        if not inputs.dtype.isnative:
            what += (
                ": in the order of bytes of another machine, which inputs.astype(inputs.dtype.newbyteorder('=')) mends"
            )
        raise InvalidSpec(f"{whose} must be numbers [samples, ...] of up to 64 bits, not {what}")


def require_finite(whose: str, inputs: Array) -> None:
    """Refuse inputs `[samples, ...]` that are not finite numbers, also as models see them.

    Raises:
        InvalidSpec: some are not; the message names the first row.

    """
    if inputs.dtype.kind != "f":
        return
    for rows in pieces(inputs):
        right = np.abs(inputs[rows]) <= np.finfo(np.float32).max
        if not right.all():
            row = int(right.reshape(len(right), -1).all(axis=1).argmin())
            value = inputs[rows][row][~right[row]].flat[0]
            where = f"row {rows.start + row:,} has {value:g}"
            raise InvalidSpec(f"{whose} is not finite, or larger than float32 holds: {where}")


def _write(folder: Path, split: str, inputs: Array, targets: Array, rows: Array) -> None:
    """Write some rows of the inputs and targets of a split."""
    write_array(folder / f"{split}_targets.npy", targets[rows])
    header = {
        "descr": np.lib.format.dtype_to_descr(inputs.dtype),
        "fortran_order": False,
        "shape": (len(rows), *inputs.shape[1:]),
    }
    # Written, not mapped: on a full disk a mapped file would kill the process.
    path = folder / f"{split}_inputs.npy"
    with store_errors(path), path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces(inputs):
            file.write(inputs[rows[piece]].tobytes())


def first_of_each_class(targets: Array, share: float) -> npt.NDArray[np.bool_]:
    """Which samples belong to a share of every class, chosen at random, the same ones every time."""
    # No `bincount`: a wrong label may be any number.
    _, place, counts = np.unique(targets, return_inverse=True, return_counts=True)
    chosen = _ranks(targets) < np.round(counts * share)[place]
    return chosen & (targets >= 0)


def _ranks(targets: Array) -> npt.NDArray[np.int64]:
    """The place `[samples]` of each sample among those of its class, in one random order that is always the same."""
    order = np.random.default_rng(0).permutation(len(targets))
    ranks = np.empty(len(targets), dtype=np.int64)
    for label in np.unique(targets):
        members = order[targets[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks
