"""The history of a training, as a file."""

from __future__ import annotations

from pathlib import Path

from distill_queue.shared.results.history import History


def test_the_same_history_is_the_same_bytes(tmp_path: Path) -> None:
    history = History.of([(0.1 + 0.2, 1 / 3, None), (1e-30, 1.0, None)])

    for name in ("one", "two"):
        history.write(tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert History.read(tmp_path / "one") == history
    assert history.held_out_accuracies == ()
