"""Samples: what a student's exported files take, as a client knows it without torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill_queue.scheduler.client.trained import TrainedStudent
from distill_queue.shared.errors import ArtifactDamaged
from distill_queue.shared.files.array_file import read_array
from distill_queue.shared.results.records import DatasetRecord, InputRecord

#: The name of the input where there is one.
INPUT = "input"


@dataclass(frozen=True, slots=True)
class FileInput:
    """An input of the exported files, stored samples of it: `[samples, *shape]`."""

    name: str
    #: NumPy's name of its type in the files.
    dtype: str
    record: InputRecord

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.record.shape

    @property
    def normalised(self) -> bool:
        """Whether mean and deviation are taken off."""
        return bool(self.record.mean)

    @property
    def mean(self) -> list[float]:
        """Of each channel, on the stored scale."""
        return list(self.record.mean)

    @property
    def std(self) -> list[float]:
        """Of each channel, on the stored scale."""
        return list(self.record.std)

    @property
    def channels(self) -> tuple[int, ...]:
        """The shape that mean and deviation have beside a sample."""
        return (-1, *(1,) * (len(self.shape) - 1))

    @property
    def words(self) -> str:
        """Its type and shape."""
        return f"{self.dtype} [samples, {', '.join(map(str, self.shape))}]" if self.shape else f"{self.dtype} [samples]"

    def taken(self, name: str) -> str:
        """An expression in PyTorch: what the network takes of a variable of stored samples."""
        if self.record.kind == "tokens":
            return f"{name}.long()"
        if self.record.kind == "flags":
            return name
        return f"({name}.float() - self.{self.name}_mean) / self.{self.name}_std"


def inputs_of(student: TrainedStudent) -> tuple[FileInput, ...]:
    """The inputs of the files that a student is exported to.

    Raises:
        ArtifactDamaged: an input has a name that no worker gives one; programs are made of these names.

    """
    record = student.data
    for name in record.inputs:
        if not name.isidentifier():
            raise ArtifactDamaged(f"{student.dataset.folder}: an input is called {name!r}")
    file = student.pipeline.store.local_file(student.dataset, "test_inputs.npy")
    stored = read_array(file, mapped=True).dtype
    if not record.inputs:
        return (FileInput(INPUT, _dtype(_only(record), stored), _only(record)),)
    kinds = {name: stored.fields[name][0].base if stored.fields else stored for name in record.inputs}
    return tuple(FileInput(name, _dtype(each, kinds[name]), each) for name, each in record.inputs.items())


def _only(record: DatasetRecord) -> InputRecord:
    kind = "tokens" if record.tokens else "numbers"
    return InputRecord.model_validate({"kind": kind, "shape": record.shape, "mean": record.mean, "std": record.std})


def _dtype(record: InputRecord, stored: np.dtype[np.generic]) -> str:
    """As the files have it: bytes as they are, other numbers as float32."""
    if record.kind == "numbers":
        return "uint8" if stored == np.uint8 else "float32"
    return {"tokens": "int64", "flags": "bool"}[record.kind]
