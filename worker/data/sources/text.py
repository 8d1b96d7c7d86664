"""Texts in a table or folder, as tokens: `ids` and `mask`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.text import TOKENIZER, TextSpec
from distill_queue.worker.data import records
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine import extras

if TYPE_CHECKING:
    from distill_queue.worker.data.tables.rows import Rows
    from distill_queue.worker.data.text.tokens import Cut, Tokens


def read(dataset: TextSpec, reading: Reading) -> Arrays:
    """Read the texts at a path.

    Raises:
        InvalidSpec: they cannot be read, or are no classification; the message says in which file and line, and why.
        StageFailed: they are not what was submitted.

    """
    extras.require("pyarrow", "text", "dataset: texts need")
    extras.require("tokenizers", "text", "dataset: texts need")
    from distill_queue.worker.data.tables.labels import labels_of
    from distill_queue.worker.data.tables.samples import Samples

    reading.place(dataset)
    content = reading.content(dataset)
    reading.report("reading")
    parts = _parts(dataset, reading)
    class_names, targets = labels_of(parts, dataset.target)
    samples = Samples.of(parts, targets)
    texts = {part: _texts(rows, dataset.text) for part, rows in samples.parts.items()}
    tokens = _tokens(dataset, reading, [*texts["train"], *texts.get("unlabelled", ())])
    advance = reading.counting(sum(map(len, texts.values())), "texts as tokens")
    inputs = {part: records.laid_together(dataset.path, tokens.encode(some, advance)) for part, some in texts.items()}
    arrays = samples.arrays(dataset.path, inputs, class_names)
    warnings = (*arrays.warnings, *_of_cut(tokens.cut, dataset.length))
    return replace(arrays, content=content, warnings=warnings, files={TOKENIZER: tokens.saved})


def _parts(dataset: TextSpec, reading: Reading) -> dict[str, Rows]:
    """The rows of each part.

    Raises:
        InvalidSpec: one cannot be read, or lacks a column.

    """
    from distill_queue.worker.data.tables.parts import called, files_of
    from distill_queue.worker.data.tables.read import read_rows
    from distill_queue.worker.data.text.folder import is_folder_of_texts, rows_of

    place = reading.place(dataset)
    if is_folder_of_texts(place):
        return rows_of(dataset, place)
    parts: dict[str, Rows] = {}
    for part, file in files_of(dataset, place).items():
        rows = read_rows(dataset, file, {dataset.text}, called=called(dataset, part, file))
        rows.require(dataset.text, "text")
        if part != "unlabelled":
            rows.require(dataset.target, "target")
        parts[part] = rows
    return parts


def _texts(rows: Rows, name: str) -> list[str]:
    """The texts in a column.

    Raises:
        InvalidSpec: one is missing.

    """
    missing = rows.missing(name)
    if missing.any():
        raise InvalidSpec(f"{rows.at(int(missing.argmax()))}: '{name}' is empty ({int(missing.sum()):,} texts are)")
    texts: list[str] = rows.column(name).to_pylist()
    return texts


def _tokens(dataset: TextSpec, reading: Reading, texts: list[str]) -> Tokens:
    """The tokenizer that the spec says."""
    from distill_queue.worker.data.text.tokens import Tokens

    if isinstance(dataset.tokenizer, str):
        return Tokens.given(reading.place(dataset, "tokenizer"), dataset.tokenizer, dataset.length)
    reading.report("training the tokenizer")
    return Tokens.trained(dataset.tokenizer, texts, dataset.length)


def _of_cut(cut: Cut, length: int) -> tuple[DataWarning, ...]:
    if not cut.texts:
        return ()
    text = (
        f"{cut.texts:,} of {cut.of_texts:,} texts ({cut.texts / cut.of_texts:.1%}) have more than {length:,} tokens: "
        f"{cut.tokens:,} of {cut.of_tokens:,} tokens ({cut.tokens / cut.of_tokens:.1%}) are cut off"
    )
    return (DataWarning(kind="truncated_texts", text=text),)
