"""Parts: the files of a path, one for all samples or one each for training, validation, testing and no labels."""

from __future__ import annotations

from pathlib import Path

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.line import listed
from distill_queue.shared.spec.sources.in_tables import PARTS, TABLES, SourceInTables

#: The name of the only part, where a fixed split makes the others from it.
WHOLE = "whole"
#: Files that a message names one by one.
MOST_NAMED = 5


def called(dataset: SourceInTables, part: str, file: Path) -> str:
    """What messages call the file of a part."""
    return dataset.path if part == WHOLE else f"{dataset.path}/{file.name}"


def files_of(dataset: SourceInTables, place: Path) -> dict[str, Path]:
    """The file of each part, of one format.

    Raises:
        InvalidSpec: a part is missing or there twice, or the parts are of several formats.

    """
    if not place.is_dir():
        return {WHOLE: place}
    found: dict[str, Path] = {}
    for file in sorted(each for each in place.iterdir() if each.is_file() and each.stem in PARTS and each.suffix):
        if file.stem in found:
            raise InvalidSpec(f"{dataset.path}: has both {found[file.stem].name} and {file.name}: take one away")
        found[file.stem] = file
    kind = found["train"].suffix if "train" in found else next((each.suffix for each in found.values()), TABLES[0])
    for part in ("train", "test"):
        if part not in found:
            there = listed(sorted(each.name for each in place.iterdir()), MOST_NAMED) or "nothing"
            raise InvalidSpec(
                f"{dataset.path}: has no {part}{kind}: a folder needs {dataset.wanted} (there: {there}); of a single "
                f"file, as path: {dataset.path}/all{kind}, a fixed fifth is for testing"
            )
    if others := [file.name for file in found.values() if file.suffix != kind]:
        raise InvalidSpec(f"{dataset.path}: {others[0]} is of another format than train{kind}")
    return {part: found[part] for part in PARTS if part in found}
