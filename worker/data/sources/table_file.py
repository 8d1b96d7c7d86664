"""A table with a row for each sample: numbers, true and false, and categories."""

from __future__ import annotations

from distill_queue.shared.spec.sources.table import TableSpec
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.machine import extras


def read(dataset: TableSpec, reading: Reading) -> Arrays:
    """Read the table at a path.

    Raises:
        InvalidSpec: it cannot be read, or is no classification; the message says in which line or column, and why.
        StageFailed: it is not what was submitted.

    """
    extras.require("pyarrow", "tables", "dataset: a table needs")
    from distill_queue.worker.data.tables.table import Table

    place = reading.place(dataset)
    content = reading.content(dataset)
    return Table.read(dataset, place, reading.report).encoded(content)
