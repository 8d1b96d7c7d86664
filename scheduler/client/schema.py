"""The JSON Schema of a spec's file, in which a student's values may be grids, and numbers ranges."""

from __future__ import annotations

from typing import Any

from distill_queue.shared.extensions import extensions
from distill_queue.shared.spec.models.custom import CustomModelSpec
from distill_queue.shared.spec.pipeline import PipelineSpec
from distill_queue.shared.spec.ranges import SCALES
from distill_queue.shared.spec.student import GridPoint, StudentGrid, StudentSpec

#: What cannot be a grid; see `student` in `shared.spec`.
SINGLE = frozenset({"name", "seeds", "training.seed"})
#: What a schema says of a value without restricting it.
ANNOTATIONS = frozenset({"title", "description", "default"})
#: The types of values that may be ranges.
NUMBERS = frozenset({"integer", "number"})

Schema = dict[str, Any]


def schema_of_specs() -> Schema:
    """The schema of spec files, for editors; pydantic's own schema of `PipelineSpec` describes a spec that was read."""
    schema = PipelineSpec.model_json_schema()
    definitions = {
        name: part for name, part in schema["$defs"].items() if name not in {StudentGrid.__name__, GridPoint.__name__}
    }
    _allow_short_names(definitions)
    student = StudentSpec.__name__
    definitions[student] = _allowing_grids(definitions, student, "")
    schema["properties"]["students"]["items"] = {"$ref": f"#/$defs/{student}"}
    return schema | {"$defs": definitions}


def _allow_short_names(definitions: Schema) -> None:
    """Let a model of the user's own also have a name that an installed package gave it."""
    names = [each.name for each in extensions("models")]
    name = definitions[CustomModelSpec.__name__]["properties"]["name"]
    if names:
        name["anyOf"] = [{"type": name.pop("type"), "pattern": name.pop("pattern")}, {"enum": names}]


def _allowing_grids(definitions: Schema, name: str, path: str) -> Schema:
    """A definition any of whose values may be a grid."""
    properties = {
        key: part if path + key in SINGLE else _or_grid(_copied(definitions, part, f"{path}{key}."))
        for key, part in definitions[name]["properties"].items()
    }
    return definitions[name] | {"properties": properties}


def _copied(definitions: Schema, part: Schema, path: str) -> Schema:
    """A value's schema whose references are to copies of their own that allow grids, as others refer to them too."""
    if "oneOf" in part:  # Several may fit, where a grid is in the place of what tells them apart.
        kinds = [_copied(definitions, kind, path) for kind in part["oneOf"]]
        return {key: value for key, value in part.items() if key != "oneOf"} | {"anyOf": kinds}
    if "additionalProperties" in part:
        return part | {"additionalProperties": _or_grid(part["additionalProperties"], ranges=False)}
    if "$ref" not in part:
        return part
    name = part["$ref"].rpartition("/")[2]
    copy = f"{name}OfStudent"
    if copy not in definitions:
        definitions[copy] = _allowing_grids(definitions, name, path)
    return part | {"$ref": f"#/$defs/{copy}"}


def _or_grid(part: Schema, *, ranges: bool = True) -> Schema:
    """A value, a grid of such values, or a range, if it is a number."""
    value = {key: given for key, given in part.items() if key not in ANNOTATIONS}
    values = {} if "const" in value else value
    grid = {
        "type": "object",
        "properties": {"grid": {"type": "array", "items": values, "minItems": 1, "uniqueItems": True}},
        "required": ["grid"],
        "additionalProperties": False,
    }
    numbers = [kind for kind in value.get("anyOf", [value]) if kind.get("type") in NUMBERS] if ranges else []
    instead = [grid, *map(_range, numbers)]
    return {key: given for key, given in part.items() if key in ANNOTATIONS} | {"anyOf": [value, *instead]}


def _range(number: Schema) -> Schema:
    """A range of a number, which only 'distill tune' takes."""
    return {
        "type": "object",
        "description": "A range to search, for 'distill tune' only.",
        "properties": {
            "between": {"type": "array", "items": number, "minItems": 2, "maxItems": 2, "uniqueItems": True},
            "scale": {"enum": list(SCALES)},
        },
        "required": ["between"],
        "additionalProperties": False,
    }
