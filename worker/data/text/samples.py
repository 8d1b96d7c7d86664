"""Samples: rows with a text each as the arrays of a data set: `ids` and `mask`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.results.records import DataWarning
from distill_queue.shared.spec.sources.text import TOKENIZER
from distill_queue.worker.data import records
from distill_queue.worker.data.arrays import Arrays
from distill_queue.worker.data.reading import Reading
from distill_queue.worker.data.tables.labels import Targets
from distill_queue.worker.data.tables.rows import Rows
from distill_queue.worker.data.tables.samples import Samples
from distill_queue.worker.data.text.tokens import Cut, Tokens

#: Share of unknown tokens above which a tokenizer seems to be of other texts: of its own, it knows nearly all.
UNKNOWN_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts in a column of the rows of each part."""

    #: What messages call all of them.
    called: str
    column: str
    parts: Mapping[str, Rows]

    def arrays(
        self,
        class_names: tuple[str, ...],
        targets: Mapping[str, Targets],
        tokens_of: Callable[[list[str]], Tokens],
        reading: Reading,
    ) -> Arrays:
        """The texts as tokens, with the tokenizer as a file.

        Args:
            class_names: in the order of the classes' numbers.
            targets: the number `[rows]` of each part's classes.
            tokens_of: makes the tokenizer from the training texts and those without a label.
            reading: takes the reports.

        Raises:
            InvalidSpec: a text is missing, or as for `Samples.arrays`.

        """
        samples = Samples.of(self.parts, targets)
        texts = {part: self._texts(rows) for part, rows in samples.parts.items()}
        tokens = tokens_of([*texts["train"], *texts.get("unlabelled", ())])
        advance = reading.counting(sum(map(len, texts.values())), "texts as tokens")
        inputs = {
            part: records.laid_together(self.called, tokens.encode(some, advance)) for part, some in texts.items()
        }
        arrays = samples.arrays(self.called, inputs, class_names)
        warnings = (*arrays.warnings, *_of_cut(tokens.cut, tokens.length), *_of_unknown(tokens.cut))
        return replace(arrays, warnings=warnings, files={TOKENIZER: tokens.saved}, padding=tokens.padding)

    def _texts(self, rows: Rows) -> list[str]:
        """The texts in the column.

        Raises:
            InvalidSpec: one is missing.

        """
        missing = rows.missing(self.column)
        if missing.any():
            count = int(missing.sum())
            raise InvalidSpec(f"{rows.at(int(missing.argmax()))}: '{self.column}' is empty ({count:,} texts are)")
        texts: list[str] = rows.column(self.column).to_pylist()
        return texts


def _of_cut(cut: Cut, length: int) -> tuple[DataWarning, ...]:
    if not cut.texts:
        return ()
    text = (
        f"{cut.texts:,} of {cut.of_texts:,} texts ({cut.texts / cut.of_texts:.1%}) have more than {length:,} tokens: "
        f"{cut.tokens:,} of {cut.of_tokens:,} tokens ({cut.tokens / cut.of_tokens:.1%}) are cut off"
    )
    return (DataWarning(kind="truncated_texts", text=text),)


def _of_unknown(cut: Cut) -> tuple[DataWarning, ...]:
    left = cut.of_tokens - cut.tokens
    if cut.unknown < UNKNOWN_SHARE * left or not cut.unknown:
        return ()
    tokens = f"{cut.unknown:,} of {left:,} tokens ({cut.unknown / left:.1%})"
    text = f"{tokens} are the one for what the tokenizer does not know: is it the tokenizer of this language?"
    return (DataWarning(kind="unknown_tokens", text=text),)
