"""What a spec says of texts: which column or folder holds them, and how they become tokens."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.augmentation import SampleFacts
from distill_queue.shared.spec.part import SpecPart
from distill_queue.shared.spec.sources.in_tables import SourceInTables
from distill_queue.shared.spec.sources.on_disk import DataPath

#: The file of a tokenizer in a folder that Hugging Face's libraries write.
TOKENIZER = "tokenizer.json"


class TrainedTokenizer(SpecPart):
    """A tokenizer that is trained on the training texts and those without a label."""

    train: Literal["bpe"] = "bpe"
    """Byte-pair encoding: frequent runs of bytes become tokens, and no text has unknown ones."""
    vocabulary: int = Field(default=8_000, ge=300, le=1_000_000)
    """Tokens that it knows at the most."""
    lowercase: bool = False
    """Whether capital letters count as small ones."""


class TextSpec(SourceInTables):
    """Texts with a class each, in a column of a table, or as files `train/<class>/*.txt` in a folder.

    A fixed fifth of every class is kept for testing, unless there are a file or folder `test`; `validation` and
    `unlabelled` may stand beside it. A model gets a sample as two arguments: `ids`, the numbers of its tokens, and
    `mask`, true where there is one.
    """

    source: ClassVar[str] = "text"
    listed: ClassVar[dict[str, str]] = {
        "text": "texts of your own: path: reviews.csv, or a folder train/<class>/*.txt; they become tokens"
    }

    wanted: ClassVar[str] = f"train/<class>/*.txt; or {SourceInTables.wanted}"

    name: Literal["text"] = "text"
    """Texts."""
    text: str = "text"
    """The column that holds the texts."""
    target: str = "label"
    """The column that holds the class, text or a whole number; a training row where it is missing has no label."""
    tokenizer: TrainedTokenizer | DataPath = TrainedTokenizer()
    """How texts become tokens: trained, or the path of a `tokenizers` JSON file or of a folder with one."""
    length: int = Field(default=128, ge=1, le=100_000)
    """Tokens of a sample: longer texts are cut off, shorter ones filled up."""

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether a folder's file is a text, the table of a part, or a tokenizer."""
        return PurePosixPath(name).suffix == ".txt" or name == TOKENIZER or super().takes(name)

    @property
    def sample(self) -> SampleFacts:
        """The inputs of a sample."""
        return SampleFacts((), ("ids", "mask"))

    @property
    def further_paths(self) -> dict[str, str]:
        """The tokenizer's, if it is given."""
        return {"tokenizer": self.tokenizer} if isinstance(self.tokenizer, str) else {}

    @model_validator(mode="after")
    def _text_and_target_differ(self) -> TextSpec:
        if self.text == self.target:
            raise PydanticCustomError("options", "text and target name one column", {"key": "target"})
        return self
