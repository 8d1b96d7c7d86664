"""Figures as inline SVG: text stays text, and colours are the page's CSS variables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import Self
from xml.etree import ElementTree as ET

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

#: Size in CSS pixels.
WIDTH, HEIGHT = 400, 290
#: Width of a figure that has a row of its own.
WIDEST = 1000
#: Longest text of a user's in a figure.
LONGEST = 22

_KINDS_OF_WORK = ("teacher", "student", "control", "labels", "evaluation", "other")
#: Stand-ins for the page's colours while a figure is drawn.
COLOURS = {
    name: f"#0101{number:02x}"
    for number, name in enumerate(("ink", "muted", "grid", *_KINDS_OF_WORK, "heat", "on-pale", "on-heat"), 1)
}

_STYLE = {
    "font.size": 12.5,
    "legend.fontsize": 12.0,
    "text.color": COLOURS["ink"],
    "text.parse_math": False,
    "axes.edgecolor": COLOURS["muted"],
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": COLOURS["ink"],
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "xtick.color": COLOURS["muted"],
    "xtick.labelcolor": COLOURS["ink"],
    "ytick.color": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["ink"],
}
_NAMES = {colour: f"var(--{name})" for name, colour in COLOURS.items()}
#: Styles that the page's own style sheet sets once.
_SAID_ELSEWHERE = re.compile(r"\s*font-family: [^;]*;")


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure, its heading, and its description for readers who cannot see it."""

    title: str
    says: str
    svg: str
    #: Whether it has a row of the page of its own.
    wide: bool = False

    @classmethod
    def drawn(
        cls,
        name: str,
        title: str,
        says: str,
        draw: Callable[[Axes], object],
        *,
        height: int = HEIGHT,
        wide: bool = False,
    ) -> Self:
        """The picture that a function draws; its name makes its ids unique within the page."""
        # Matplotlib measures text in a font of its own, which need not have all of a user's letters.
        with rc_context(_STYLE), warnings.catch_warnings():  # type: ignore[arg-type]
            warnings.filterwarnings("ignore", "Glyph")
            size = ((WIDEST if wide else WIDTH) / 72, height / 72)
            figure = Figure(figsize=size, dpi=72, layout="constrained")
            canvas = FigureCanvasSVG(figure)
            draw(figure.subplots())
            drawing = StringIO()
            # Not `savefig`, which draws it twice.
            canvas.print_svg(drawing, metadata={"Date": None})  # type: ignore[no-untyped-call]
        return cls(title, says, _inline(drawing.getvalue(), name), wide)


def plain(text: str, longest: int = LONGEST) -> str:
    """A user's text as it can stand in a figure: printable, and cut in the middle where it is too long."""
    printable = "".join(letter if letter.isprintable() else "�" for letter in text)
    if len(printable) <= longest:
        return printable
    return f"{printable[: longest // 2]}…{printable[-((longest - 1) // 2) :]}"


def _inline(svg: str, name: str) -> str:
    """A drawing as an element of a page: without styles that the page sets, and with ids of its own."""
    root = ET.fromstring(svg)  # noqa: S314 (drawn here)
    referred = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {_local(key): _attribute(_local(key), value, name) for key, value in element.attrib.items()}
        if element.get("id", "").removeprefix(f"{name}-") not in referred:
            element.attrib.pop("id", None)
    root.attrib = {"viewBox": root.attrib["viewBox"], "aria-hidden": "true", "focusable": "false"}
    return ET.tostring(root, encoding="unicode")


def _local(name: object) -> str:
    """A name without its namespace: a page has none."""
    return str(name).rpartition("}")[2]


def _attribute(key: str, value: str, name: str) -> str:
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    if key == "style":
        value = _SAID_ELSEWHERE.sub("", value)
        for colour, variable in _NAMES.items():
            value = value.replace(colour, variable)
    return value.replace("url(#", f"url(#{name}-") if key in ("clip-path", "style") else " ".join(value.split())
