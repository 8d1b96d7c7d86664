"""Makes the table that movie-snippets.yaml reads: 10,605 lines of film reviews, rated by twenty people each.

They come with the source of the package vaderSentiment (Hutto and Gilbert 2014), which pip fetches:

    pip download --no-binary :all: --no-deps vaderSentiment==3.3.2
    python examples/movie_snippets.py vaderSentiment-3.3.2.tar.gz
"""

from __future__ import annotations

import csv
import io
import sys
import tarfile
from pathlib import Path

#: Where the ratings are, in an archive in the archive.
RATINGS = "hutto_ICWSM_2014.tar.gz", "movieReviewSnippets_GroundTruth.txt"
#: Mean rating, from -4 to 4, from which on a line counts as positive; up to its negative, as negative.
CLEAR = 0.5


def main(source: Path, table: Path) -> None:
    """Write the columns `text` and `label`, the latter empty for lines in the middle, in the ratings' own encoding."""
    data = source.read_bytes()
    for name in RATINGS:
        data = _member(data, name)
    rows = []
    for line in data.decode("latin-1").splitlines():
        _, rating, text = line.split("\t", 2)
        label = "positive" if float(rating) >= CLEAR else "negative" if float(rating) <= -CLEAR else ""
        rows.append((text.strip(), label))
    with table.open("w", encoding="latin-1", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    print(f"{table}: {len(rows):,} lines, {sum(bool(label) for _, label in rows):,} of them with a label")


def _member(archive: bytes, name: str) -> bytes:
    """A file in a packed archive."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        found = next((each for each in files.getnames() if Path(each).name == name), None)
        file = files.extractfile(found) if found else None
        if file is None:
            sys.exit(f"no {name} in it: it should be the source of vaderSentiment 3.3.2")
        return file.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent / "snippets.csv")
