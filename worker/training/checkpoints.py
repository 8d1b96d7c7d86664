"""Checkpoints: where a training stands, on the store, so that any worker can go on with it to the same weights."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from distill_queue.shared.errors import store_errors
from distill_queue.shared.files.bucket import Bucket
from distill_queue.shared.files.folders import found_in

#: Share of the time that may go into saving: the next checkpoint waits until it is kept.
LARGEST_SHARE = 0.02
#: Written into each checkpoint, and required of one: with another version of torch, a training might end in other bits.
FORMAT = f"2, torch {torch.__version__}"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Tensors by name, and what JSON can hold."""

    tensors: dict[str, torch.Tensor]
    facts: dict[str, Any]

    def to_bytes(self, **further: Any) -> bytes:
        """The checkpoint as safetensors, with further facts."""
        facts = json.dumps(self.facts | further)
        return save({name: _own(tensor) for name, tensor in self.tensors.items()}, {"facts": facts})

    @classmethod
    def of_bytes(cls, data: bytes) -> Self:
        """The checkpoint that `to_bytes` wrote.

        Raises:
            SafetensorError, LookupError, TypeError, ValueError, RecursionError: the bytes are of something else.

        """
        return cls(load(data), json.loads(_metadata(data)["facts"]))


@dataclass(slots=True)
class Checkpoints:
    """A folder of at most two files, `<steps>-<SHA-256>.safetensors`: a name is its content's proof."""

    folder: Path
    every_seconds: float
    #: Kind of device that they were computed on: another one gives other bits.
    device: str = "cpu"
    #: Raises `StageStopped` where another worker has taken over, which then writes here.
    confirm: Callable[[], None] = lambda: None
    #: Called after each checkpoint is written.
    saved: Callable[[], None] = lambda: None
    #: Keys of the stages that are trained.
    members: list[str] = field(default_factory=list)
    #: Where other machines see the checkpoints; None where they see the folder.
    bucket: Bucket | None = None
    _saved: float = field(default_factory=time.monotonic)
    _cost_seconds: float = 0.0

    @property
    def _format(self) -> str:
        return f"{FORMAT}, {self.device}"

    @property
    def due(self) -> bool:
        """Whether it is time for the next one."""
        return self.age_seconds >= self.interval_seconds

    @property
    def interval_seconds(self) -> float:
        """Seconds from one to the next."""
        return max(self.every_seconds, self._cost_seconds / LARGEST_SHARE)

    @property
    def age_seconds(self) -> float:
        """Seconds since the last one, or since the beginning."""
        return time.monotonic() - self._saved

    def save(self, steps: int, checkpoint: Checkpoint) -> None:
        """Write a checkpoint, whole or not at all, and remove older ones.

        Raises:
            StageStopped: `confirm` raised it.
            StoreUnavailable: it cannot be written.

        """
        self.confirm()
        started = time.monotonic()
        data = checkpoint.to_bytes(format=self._format, members=self.members)
        path = self.folder / f"{steps:012}-{hashlib.sha256(data).hexdigest()}.safetensors"
        with store_errors(path):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write(path, data)
        if self.bucket:
            self.bucket.upload(path, path.name)
        drafts = {other.name for other in found_in(self.folder) if other.suffix == ".draft"}
        self._remove(other for other in self._names() | drafts if other < path.name)
        self._cost_seconds = time.monotonic() - started
        self.saved()
        self._saved = time.monotonic()  # With a slow or missing broker, the call takes longer than all the rest.

    def latest(self) -> Checkpoint | None:
        """The checkpoint with the most steps; damaged ones and those of another version are passed over.

        Raises:
            StoreUnavailable: a checkpoint cannot be read.

        """
        for name in sorted(self._names(), reverse=True):
            path = self.folder / name
            data = self._read(path)
            if not _is_proven(path, data):
                logger.warning("%s: damaged: the training goes on from an earlier one", path)
                continue
            try:
                facts = json.loads(_metadata(data)["facts"])
                if facts["format"] == self._format:
                    return Checkpoint(load(data), facts)
            except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
                logger.warning("%s: no checkpoint of this version: %s", path, error)
        return None

    def clear(self) -> None:
        """Remove all checkpoints: they are of other stages, or do not fit."""
        self._remove(self._names())

    def _names(self) -> set[str]:
        """File names of the checkpoints here, and of those that another machine has written."""
        here = {path.name for path in found_in(self.folder) if path.suffix == ".safetensors" and path.is_file()}
        return here | {name for name in (self.bucket.list() if self.bucket else ()) if name.endswith(".safetensors")}

    def _read(self, path: Path) -> bytes:
        """The bytes of a checkpoint, copied here where another machine has written it; none where it is gone."""
        with store_errors(path):
            if path.exists() or self.bucket is None:
                return path.read_bytes()
        data = self.bucket.read(path.name) or b""
        if _is_proven(path, data):
            with store_errors(path):
                self.folder.mkdir(parents=True, exist_ok=True)
                _write(path, data)
        return data

    def _remove(self, names: Iterable[str]) -> None:
        with store_errors(self.folder):
            for name in (gone := list(names)):
                (self.folder / name).unlink(missing_ok=True)
        if self.bucket:
            self.bucket.remove(*gone)


def _is_proven(path: Path, data: bytes) -> bool:
    """Whether a checkpoint's name is that of its content."""
    return hashlib.sha256(data).hexdigest() == path.stem.partition("-")[2]


def _metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says beside its tensors: a header's length in 8 bytes, then the header as JSON.

    Not by `safe_open`, which reports each error of opening a file as a missing file.
    """
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


def _own(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in memory of its own, as safetensors wants it."""
    return tensor.detach().cpu().clone().contiguous()


def _write(path: Path, data: bytes) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        with draft.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(OSError):  # The error of writing matters, not that the draft stays.
            draft.unlink(missing_ok=True)
