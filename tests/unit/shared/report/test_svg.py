"""Figures as SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from distill_queue.shared.report.svg import Picture, plain


def test_a_figure_has_its_text_as_text_and_the_pages_colours() -> None:
    picture = Picture.drawn("x", "Title", "says", lambda axes: axes.set_xlabel("a & <b> $c$"))

    texts = [element.text for element in ET.fromstring(picture.svg).iter("text")]

    assert "a & <b> $c$" in texts
    assert "var(--ink)" in picture.svg
    assert not re.search(r"#[0-9a-f]{6}", picture.svg)


def test_long_names_are_cut_in_the_middle() -> None:
    assert plain("a" * 30 + "-1", 9) == "aaaa…aa-1"
    assert plain("short", 5) == "short"
