"""A teacher that is no torch model: a random forest of scikit-learn, whose soft labels a network learns from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import RandomForestClassifier

#: Of probabilities before their logarithm is taken: a class that no tree names is unlikely, and not impossible.
SMALLEST_PROBABILITY = 1e-3


def main(samples: Path, labels: Path) -> None:
    """Write soft labels of the samples that `distill labels samples` has written."""
    inputs, targets = np.load(samples / "inputs.npy"), np.load(samples / "targets.npy")
    facts = json.loads((samples / "facts.json").read_text())
    forest = RandomForestClassifier(n_estimators=300, oob_score=True, random_state=0, n_jobs=-1)
    forest.fit(inputs.reshape(len(inputs), -1), targets)
    # Out of bag: what the trees say that have not seen the sample. The others know its label by heart.
    logits = np.log(np.maximum(forest.oob_decision_function_, SMALLEST_PROBABILITY))
    np.savez(labels, logits=logits.astype(np.float32), facts=np.array(json.dumps(facts)))
    print(f"{labels}: {len(logits):,} rows, right on {(logits.argmax(1) == targets).mean():.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
