"""Grids: `{grid: [1, 2, 4]}` in place of a value, and the points that they span."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

#: Most points of one student.
LARGEST_GRID = 256

#: As many points as are counted.
_UNCOUNTED = 1_000_000_000

Path = tuple[str, ...]


def has_grid(data: Any) -> bool:
    """Whether a grid stands anywhere in a mapping; a mapping of one number named `grid` is none."""
    return isinstance(data, dict) and any(True for _ in values_in_grids(data))


def number_of_points(data: Any) -> int:
    """How many combinations the grids in a mapping have; 1 without a grid. Of very many, only that they are many."""
    count = 1
    for _, values in values_in_grids(data) if isinstance(data, dict) else ():
        count = min(count * len(values), _UNCOUNTED)
    return count


def points(data: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What tells the points apart, and the mapping with one value of each grid in its place, for all combinations.

    Raises:
        ValueError: a grid is empty or has a value twice, or there are too many points.

    """
    grids, count = dict(values_in_grids(data)), number_of_points(data)
    for path, values in grids.items():
        name = ".".join(path)
        if not values:
            raise ValueError(f"{name}: the grid has no values")
        if len({words_of(value) for value in values}) < len(values):
            raise ValueError(f"{name}: a value stands twice in the grid")
    if count > LARGEST_GRID:
        raise ValueError(f"the grid has {count:,} points, more than {LARGEST_GRID}")
    names = [path[-1] if [other[-1] for other in grids].count(path[-1]) == 1 else ".".join(path) for path in grids]
    return [
        (
            ", ".join(f"{name} {words_of(value)}" for name, value in zip(names, values, strict=True)),
            _replaced(data, dict(zip(grids, values, strict=True)), ()),
        )
        for values in product(*grids.values())
    ]


def values_of(labels: Sequence[str]) -> list[dict[str, str]]:
    """What tells points apart, by name, as their labels say it; nothing where they do not all say it of the same."""
    values = [dict(part.partition(" ")[::2] for part in label.split(", ")) for label in labels]
    names = values[0].keys()
    told = all(value.keys() == names and all(value.values()) for value in values)
    return values if told else [{} for _ in labels]


def values_in_grids(data: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Place and values of each grid."""
    for key, value in data.items():
        if not isinstance(value, dict):
            continue
        if value.keys() == {"grid"} and isinstance(value["grid"], list | tuple):
            yield (*path, str(key)), value["grid"]
        else:
            yield from values_in_grids(value, (*path, str(key)))


def _replaced(data: dict[str, Any], values: dict[Path, Any], path: Path) -> dict[str, Any]:
    replaced = {}
    for key, value in data.items():
        place = (*path, str(key))
        if place in values:
            replaced[key] = values[place]
        else:
            replaced[key] = _replaced(value, values, place) if isinstance(value, dict) else value
    return replaced


def words_of(value: Any) -> str:
    """A value in the words of a label: 1 and 1.0 are the same, and no digit that matters is left out."""
    if isinstance(value, list | tuple):
        inside = (f"[{words_of(item)}]" if isinstance(item, list | tuple) else words_of(item) for item in value)
        return "-".join(inside) or "none"
    if isinstance(value, dict) and value.keys() == {"from", "to"}:
        return f"{words_of(value['from'])}→{words_of(value['to'])}"
    if not isinstance(value, float):
        return str(value)
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
