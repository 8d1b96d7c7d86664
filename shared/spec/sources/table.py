"""What a spec says of a table: which column is the class, and how the others become numbers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from distill_queue.shared.spec.sources.in_tables import ColumnNames, SourceInTables

#: What becomes of a row in which a value is missing.
Missing = Literal["refuse", "mean", "drop"]


class TableSpec(SourceInTables):
    """A table with a row for each sample, in a CSV, TSV, Parquet or JSON Lines file.

    A fixed fifth of every class is kept for testing; or the path is a folder with a file `train.csv` and a file
    `test.csv`, and perhaps `validation.csv` and `unlabelled.csv`. Numbers stay numbers, true and false are 1 and 0,
    and texts are categories: each becomes a column of 0 and 1.
    """

    source: ClassVar[str] = "table"
    listed: ClassVar[dict[str, str]] = {
        "table": "a table of your own: path: wine.csv (.tsv, .parquet, .jsonl), target: the column of the class"
    }

    name: Literal["table"] = "table"
    """A table."""
    target: str
    """The column that holds the class, text or a whole number; a training row where it is missing has no label."""
    features: ColumnNames = ()
    """The columns that the models see, in this order; without them all but the target, in the table's order."""
    leave_out: ColumnNames = ()
    """Columns that the models do not see, as a row's number."""
    categories: ColumnNames = ()
    """Columns of numbers that are names, as a postcode; columns of text are categories anyway."""
    missing: Missing = "refuse"
    """Rows with missing values are refused, dropped, or completed with the mean of the training rows."""
    missing_marks: Annotated[tuple[str, ...], Field(strict=False, max_length=100)] = ()
    """What else stands for a missing value in a CSV file, as `"?"`; an empty one is missing anyway."""
    decimal: Literal[".", ","] = "."
    """What stands before the decimals of a number in a CSV file."""

    @model_validator(mode="after")
    def _columns_have_one_role(self) -> Self:
        used = {"leave_out": self.leave_out, "features": self.features}
        for key, names in used.items():
            if self.target in names:
                raise PydanticCustomError(
                    "options", "the target '{name}' cannot stand in {key}", {"key": key, "name": self.target}
                )
        if both := set(self.features) & set(self.leave_out):
            raise PydanticCustomError(
                "options", "'{name}' stands in features and in leave_out", {"key": "leave_out", "name": min(both)}
            )
        if self.decimal == "," and self.path.lower().endswith(".csv") and not self.separator:
            raise PydanticCustomError(
                "options",
                "decimal: ',' needs a separator, as separator: ';', or ',' where numbers stand in quotation marks",
                {"key": "decimal"},
            )
        return self
