"""Facts: everything that the files of an exported student are made from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from distill_queue.scheduler.client.exported import record_of
from distill_queue.scheduler.client.trained import TrainedStudent
from distill_queue.scheduler.exports.samples import FileInput
from distill_queue.shared.results.export import ExportRecord
from distill_queue.shared.spec.sources.on_disk import SourceOnDisk
from distill_queue.shared.store.artifact import Artifact


@dataclass(frozen=True, slots=True)
class FolderFacts:
    """A trained student with its exported files."""

    student: TrainedStudent
    inputs: tuple[FileInput, ...]
    exports: tuple[Artifact, ...]
    licence: str
    #: The `config.json` of a model of transformers; none of others.
    configuration: Mapping[str, Any] | None = None

    @property
    def records(self) -> tuple[ExportRecord, ...]:
        """How the files did, in the order of the exports."""
        return tuple(record_of(each) for each in self.exports)

    @property
    def onnx_file(self) -> str:
        """The first file that onnxruntime runs, as `predict.py` does; empty if there is none."""
        return next((record.file for record in self.records if record.file.endswith(".onnx")), "")

    @property
    def dataset_name(self) -> str:
        """What the data set is called; of one on a disk, its file or folder without the path to it."""
        spec = self.student.dataset_spec
        return PurePath(spec.path).name if isinstance(spec, SourceOnDisk) else spec.called

    @property
    def factory(self) -> str:
        """The class of transformers that builds such a model; empty of other models."""
        if self.configuration is None:
            return ""
        of_texts = self.student.data.tokens or bool(self.student.data.inputs)
        return f"AutoModelFor{'SequenceClassification' if of_texts else 'ImageClassification'}"
