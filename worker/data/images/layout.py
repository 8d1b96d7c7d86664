"""Layouts: which files below a folder are samples of which split and class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Self

import numpy as np
import numpy.typing as npt

from distill_queue.shared.errors import InvalidInput, InvalidSpec, Unavailable
from distill_queue.shared.files.content import files_below
from distill_queue.shared.line import listed
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.image_folder import IMAGE_SUFFIXES, SPLITS, ImageFolderSpec
from distill_queue.shared.text import encodable, plain_line
from distill_queue.worker.machine.outages import can_pass
from distill_queue.worker.machine.runtime import Report

#: Things that are named one by one.
MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Files:
    """Files of one split, by their paths below the folder, and the class of each."""

    paths: tuple[str, ...]
    #: `[files]`, -1 for none.
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.paths)

    def where(self, chosen: npt.NDArray[np.bool_]) -> Self:
        """Those of the files that are chosen."""
        paths = tuple(path for path, taken in zip(self.paths, chosen.tolist(), strict=True) if taken)
        return replace(self, paths=paths, targets=self.targets[chosen])

    def __add__(self, other: Files) -> Files:
        return Files(self.paths + other.paths, np.concatenate((self.targets, other.targets)))


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of each split, in the order of their names; a split that is not there has none."""

    class_names: tuple[str, ...]
    train: Files
    validation: Files
    test: Files
    unlabelled: Files
    #: What lies there and is not read.
    warnings: tuple[DataWarning, ...]

    @classmethod
    def of(cls, place: Path, called: str, report: Report = lambda *_: None) -> Self:
        """Look at what lies below a folder; no file is opened.

        Args:
            place: the folder.
            called: what messages call it.
            report: called with each file that is found; what it raises ends the work.

        Raises:
            InvalidSpec: it has no classes, or something lies where it can be of none.
            Unavailable: a folder cannot be read for now.

        """
        if not place.is_dir():
            raise InvalidSpec(f"{called}: is a file, not a folder of images")
        folders = _folders(place)
        splits = _splits(folders, called)
        found = _Found(called, splits, in_train="train" in splits.values())
        for path in sorted(_paths(place, report), key=os.fsencode):
            found.sort_in(path)
        found.require_classes()
        names = sorted({name for split in found.of_classes.values() for _, name in split}, key=os.fsencode)
        number = {name: place for place, name in enumerate(names)}
        files = {
            split: Files(
                tuple(path for path, _ in members),
                np.array([number[name] for _, name in members], dtype=np.int64),
            )
            for split, members in found.of_classes.items()
        }
        unlabelled = Files(tuple(found.unlabelled), np.full(len(found.unlabelled), -1, dtype=np.int64))
        shown = tuple(plain_line(encodable(name)) for name in names)
        empty = sorted(_empty(place, splits, folders, set(names)))
        return cls(
            shown, files["train"], files["validation"], files["test"], unlabelled, tuple(found.warnings(empty))
        )  # fmt: skip


class _Found:
    """What was found, while the files are looked at one by one."""

    def __init__(self, called: str, splits: dict[str, str], *, in_train: bool) -> None:
        self.called = called
        self.splits = splits
        #: Whether classes lie in folders of splits, and not directly in the path.
        self.in_train = in_train
        #: The paths and classes of each split.
        self.of_classes: dict[str, list[tuple[str, str]]] = {"train": [], "validation": [], "test": []}
        self.unlabelled: list[str] = []
        #: Images that lie beside the classes' folders, and those in folders that are no split.
        self.classless: list[str] = []
        self.elsewhere: Counter[str] = Counter()
        #: How many other files there are, by the end of their names.
        self.others: Counter[str] = Counter()

    def sort_in(self, path: str) -> None:
        first, *rest = path.split("/")
        split = self.splits.get(first)
        if not ImageFolderSpec.takes(path):
            self.others[PurePosixPath(path).suffix.lower() or "no ending"] += 1
        elif split == "unlabelled" and rest:
            self.unlabelled.append(path)
        elif split is None and self.in_train:
            self.elsewhere[first if rest else "."] += 1
        elif len(names := rest if self.in_train else [first, *rest]) < 2:
            self.classless.append(path)
        else:
            self.of_classes[split or "train"].append((path, names[0]))

    def require_classes(self) -> None:
        """Raise InvalidSpec unless there are classes, and no image beside them."""
        if self.classless:
            raise InvalidSpec(
                f"{self.called}: {len(self.classless):,} images lie in no class's folder: "
                f"{listed(self.classless, MOST_NAMED)}"
            )
        if not (train := self.of_classes["train"]):
            there = f"; {listed(_counts(self.others), MOST_NAMED)}" if self.others else ""
            raise InvalidSpec(
                f"{self.called}: no images of classes, as train/cats/1.jpg ({', '.join(IMAGE_SUFFIXES)}{there})"
            )
        if len(names := {name for _, name in train}) == 1:
            raise InvalidSpec(f"{self.called}: a single class, {names.pop()}: two or more are to be told apart")

    def warnings(self, empty: list[str]) -> Iterable[DataWarning]:
        if empty:
            text = f"{_count(len(empty), 'folder')} without an image, taken for no class: {listed(empty, MOST_NAMED)}"
            yield DataWarning(kind="unused_classes", text=text)
        if self.others:
            count = _count(sum(self.others.values()), "file")
            text = f"{count} not read, as the name is no image's: {listed(_counts(self.others), MOST_NAMED)}"
            yield DataWarning(kind="unread_files", text=text)
        if self.elsewhere:
            count = _count(sum(self.elsewhere.values()), "image")
            beside = listed(_counts(self.elsewhere), MOST_NAMED)
            yield DataWarning(kind="unread_files", text=f"{count} not read, beside the splits' folders: {beside}")


def _paths(place: Path, report: Report) -> Iterable[str]:
    try:
        for number, file in enumerate(files_below(place, lambda _: True), 1):
            report(f"looking for images, {number:,} files found")
            yield file.relative_to(place).as_posix()
    except InvalidInput as error:
        raise (Unavailable if can_pass(error) else InvalidSpec)(f"dataset.path: {error}") from error


def _folders(place: Path) -> list[str]:
    with os.scandir(place) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _splits(folders: list[str], called: str) -> dict[str, str]:
    """The split of each folder that is one.

    Raises:
        InvalidSpec: two are the same, or there is a test set without a training set.

    """
    splits = {name: SPLITS[name.lower()] for name in folders if name.lower() in SPLITS}
    for split in dict.fromkeys(splits.values()):
        if len(same := [name for name, each in splits.items() if each == split]) > 1:
            raise InvalidSpec(f"{called}: {' and '.join(same)} are two folders of one split")
    without_train = [name for name, split in splits.items() if split in ("validation", "test")]
    if without_train and "train" not in splits.values():
        raise InvalidSpec(f"{called}: has the folder {without_train[0]} and no folder train beside it")
    return splits


def _empty(place: Path, splits: dict[str, str], folders: list[str], names: set[str]) -> Iterable[str]:
    """Folders of which no image is in any split."""
    if "train" not in splits.values():
        yield from (name for name in folders if name not in names and name not in splits)
        return
    for folder, split in splits.items():
        if split != "unlabelled":
            yield from (f"{folder}/{name}" for name in _folders(place / folder) if name not in names)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun} is" if number == 1 else f"{number:,} {noun}s are"


def _counts(counter: Counter[str]) -> list[str]:
    return [f"{count:,} {name}" for name, count in counter.most_common()]
