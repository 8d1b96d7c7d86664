"""The user's own code by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.worker.machine.plugins import load


@pytest.mark.parametrize("package", ["scheduler", "shared", "worker"])
def test_code_that_imports_a_part_of_ours_by_its_old_name_is_told_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    (tmp_path / f"old_{package}.py").write_text(f"from {package}.nothing import nothing\n")
    (tmp_path / package).mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(InvalidSpec, match=rf"distill-queue's {package} is imported as distill_queue\.{package}"):
        load(f"old_{package}:nothing", (f"old_{package}",))
