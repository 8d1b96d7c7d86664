"""Tokens: a tokenizer that is trained or given, and texts as the numbers of their tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.files.files import NoFile, read
from distill_queue.shared.line import first_line
from distill_queue.shared.soft_labels.numerics import Array
from distill_queue.shared.spec.sources.text import TOKENIZER, TrainedTokenizer

#: What fills up short texts, by the names that tokenizers give it.
PADDING = ("[PAD]", "<pad>", "<|pad|>", "<|endoftext|>")
#: Bytes of a tokenizer, at the most.
MOST_BYTES = 200_000_000
#: Texts that become tokens in one go.
PIECE = 4_096


@dataclass(slots=True)
class Cut:
    """What was cut off from texts that are too long, and what of the rest is unknown."""

    texts: int = 0
    tokens: int = 0
    of_texts: int = 0
    of_tokens: int = 0
    #: Tokens, of those that are left, that stand for what the tokenizer does not know.
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer that cuts texts and fills them up, and what it has cut off."""

    tokenizer: Any
    length: int
    padding: int
    cut: Cut = field(default_factory=Cut)

    @classmethod
    def trained(cls, how: TrainedTokenizer, texts: Sequence[str], length: int) -> Self:
        """One that is trained on some texts: the same texts give the same tokenizer, however many threads there are."""
        tokenizer = tokenizers.Tokenizer(models.BPE())
        steps = [normalizers.NFC(), *([normalizers.Lowercase()] if how.lowercase else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=how.vocabulary,
            special_tokens=[PADDING[0]],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls._of(tokenizer, length)

    @classmethod
    def given(cls, place: Path, called: str, length: int) -> Self:
        """One that was written by the library `tokenizers`, or by Hugging Face's `save_pretrained` into a folder.

        Raises:
            InvalidSpec: there is none, or it cannot be read.

        """
        file = place / TOKENIZER if place.is_dir() else place
        if not file.exists():
            raise InvalidSpec(
                f"dataset.tokenizer: {called} has no {TOKENIZER}: "
                "AutoTokenizer.from_pretrained(…).save_pretrained(…) writes one"
            )
        try:
            tokenizer = tokenizers.Tokenizer.from_str(read(file, MOST_BYTES).decode())
        except NoFile as error:
            raise InvalidSpec(f"dataset.tokenizer: {called}: {error}") from error
        except Exception as error:  # The library raises nothing more special.
            if isinstance(error, OSError):
                raise
            raise InvalidSpec(
                f"dataset.tokenizer: {called}: no tokenizer of the library 'tokenizers': {error}"
            ) from error
        return cls._of(tokenizer, length)

    @classmethod
    def _of(cls, tokenizer: Any, length: int) -> Self:
        own = tokenizer.padding or {}
        known = {token: tokenizer.token_to_id(token) for token in (own.get("pad_token"), *PADDING) if token}
        token, padding = next(((each, number) for each, number in known.items() if number is not None), (PADDING[0], 0))
        try:
            tokenizer.enable_truncation(length)
        except Exception as error:
            raise InvalidSpec(f"dataset.length: {length} tokens are too few for this tokenizer: {error}") from error
        tokenizer.enable_padding(length=length, pad_id=padding, pad_token=token)
        return cls(tokenizer, length, padding)

    @property
    def saved(self) -> bytes:
        """The tokenizer as a file, which gives the same numbers wherever it is loaded."""
        text: str = self.tokenizer.to_str(pretty=True)
        return text.encode()

    def encode(self, texts: Sequence[str], advance: Callable[[int], None]) -> dict[str, Array]:
        """The numbers of the tokens `[texts, length]` and where there are any, true; what is cut off is counted."""
        small = self.tokenizer.get_vocab_size() <= np.iinfo(np.int16).max
        ids = np.full((len(texts), self.length), self.padding, np.int16 if small else np.int32)
        mask = np.zeros(ids.shape, np.bool_)
        added = self.tokenizer.num_special_tokens_to_add(False)
        token = getattr(self.tokenizer.model, "unk_token", None)
        unknown = -1 if token is None else self.tokenizer.token_to_id(token)
        for start in range(0, len(texts), PIECE):
            for row, encoding in enumerate(self._encoded(texts[start : start + PIECE]), start):
                ids[row], mask[row] = encoding.ids, encoding.attention_mask
                lost = sum(sum(each.attention_mask) - added for each in encoding.overflowing)
                self.cut.tokens += lost
                self.cut.texts += lost > 0
                self.cut.of_tokens += lost + int(mask[row].sum()) - added
            self.cut.unknown += int((mask[start : start + PIECE] & (ids[start : start + PIECE] == unknown)).sum())
            advance(min(PIECE, len(texts) - start))
        self.cut.of_texts += len(texts)
        mask[~mask.any(axis=1), 0] = True  # A text without a token is one of padding: a mean over none is no number.
        return {"ids": ids, "mask": mask}

    def _encoded(self, texts: Sequence[str]) -> Any:
        """The library's encodings of some texts.

        Raises:
            InvalidSpec: the tokenizer cannot make tokens of them, as where it names no token for what it does not know.

        """
        try:
            return self.tokenizer.encode_batch(texts)
        except Exception as error:  # The library raises nothing more special.
            raise InvalidSpec(f"dataset.tokenizer: makes no tokens of the texts: {first_line(error)}") from error
