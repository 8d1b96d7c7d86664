"""Exporters, and the libraries that they need."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.export import FORMATS
from distill_queue.worker.exports.exporter import Exporter

EXTRAS = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_whose_library_is_missing_says_which_extra_has_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = FORMATS[name].libraries[0]
    monkeypatch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]

    with pytest.raises(InvalidSpec) as error:
        Exporter.of(name, ())

    assert str(error.value).startswith(f"export.formats: {name} needs {missing}, which this worker cannot import")
    assert str(error.value).endswith(f"pip install 'distill-queue[{FORMATS[name].extra}]'")


@pytest.mark.parametrize("name", FORMATS)
def test_a_formats_libraries_are_those_of_its_extra(name: str) -> None:
    installed = {re.split(r"[<>=]", each)[0] for each in EXTRAS[FORMATS[name].extra]}

    assert FORMATS[name].libraries
    assert installed >= set(FORMATS[name].libraries)
