"""Texts in a table or folder, as tokens: `ids` and `mask`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distill_queue.shared.spec.sources.text import TextSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine import extras

if TYPE_CHECKING:
    from distill_queue.worker.data.tables.rows import Rows
    from distill_queue.worker.data.text.tokens import Tokens


def read(dataset: TextSpec, reading: Reading) -> Arrays:
    """Read the texts at a path.

    Raises:
        InvalidSpec: they cannot be read, or are no classification; the message says in which file and line, and why.
        StageFailed: they are not what was submitted.

    """
    extras.require("pyarrow", "text", "dataset: texts need")
    extras.require("tokenizers", "text", "dataset: texts need")
    from distill_queue.worker.data.tables.labels import labels_of
    from distill_queue.worker.data.text.folder import is_folder_of_texts, warnings_of
    from distill_queue.worker.data.text.samples import Texts

    place = reading.place(dataset)
    content = reading.content(dataset)
    parts = _parts(dataset, reading)
    texts = Texts(dataset.path, dataset.text, parts)
    arrays = texts.arrays(*labels_of(parts, dataset.target), lambda some: _tokens(dataset, reading, some), reading)
    unread = warnings_of(place, parts) if is_folder_of_texts(place) else ()
    return replace(arrays, content=content, warnings=(*unread, *arrays.warnings))


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
        return rows_of(dataset, place, reading.report)
    parts: dict[str, Rows] = {}
    for part, file in files_of(dataset, place).items():
        name = called(dataset, part, file)
        rows = read_rows(dataset, file, {dataset.text}, called=name, report=reading.report)
        rows.require(dataset.text, "text")
        if part != "unlabelled":
            rows.require(dataset.target, "target")
        parts[part] = rows
    return parts


def _tokens(dataset: TextSpec, reading: Reading, texts: list[str]) -> Tokens:
    """The tokenizer that the spec says."""
    from distill_queue.worker.data.text.tokens import Tokens

    if isinstance(dataset.tokenizer, str):
        return Tokens.given(reading.place(dataset, "tokenizer"), dataset.tokenizer, dataset.length)
    reading.report("training the tokenizer")
    return Tokens.trained(dataset.tokenizer, texts, dataset.length)
