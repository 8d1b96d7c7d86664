"""What a file tells of its student besides its answers."""

from __future__ import annotations

import json
from dataclasses import dataclass

from distill_queue.worker.exports.deployable import RawInput


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is written into a file: nothing that differs between two machines or two days."""

    class_names: tuple[str, ...]
    #: Keys of the student's training, or of what chose it, and of its data.
    model_key: str
    dataset_key: str
    inputs: tuple[RawInput, ...]
    #: By which the student learned, in words; empty where it is not known.
    distillation: str = ""
    licence: str = ""

    @property
    def texts(self) -> dict[str, str]:
        """The facts as texts, by names that begin with the project's."""
        normalised = {
            each.name: {"mean": each.mean.flatten().tolist(), "std": each.std.flatten().tolist()}
            for each in self.inputs
            if each.mean is not None and each.std is not None
        }
        found = {
            "class_names": json.dumps(self.class_names, ensure_ascii=False),
            "normalisation": json.dumps(normalised),
            "model_key": self.model_key,
            "dataset_key": self.dataset_key,
            "distillation": self.distillation,
            "licence": self.licence,
        }
        return {f"distill_queue.{name}": text for name, text in found.items() if text}
