"""Students that teach others of their spec."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.spec.pipeline import PipelineSpec

MakeSpec = Callable[..., PipelineSpec]


def student(name: str, teacher: str | None = None, **others: Any) -> dict[str, Any]:
    return {"name": name, "model": {"name": "mlp", "hidden": [8]}} | ({"teacher": teacher} if teacher else {}) | others


def test_students_are_taught_generation_by_generation(make_spec: MakeSpec) -> None:
    students = [student("c", "b"), student("b", "a"), student("a"), student("d"), student("e", "a")]

    spec = make_spec(students=students)

    assert [[each.name for each in generation] for generation in spec.generations] == [["a", "d"], ["b", "e"], ["c"]]
    assert [assistant.name for assistant in spec.assistants] == ["b", "a"]


@pytest.mark.parametrize(
    ("teachers", "line", "message"),
    [
        ({"a": "a"}, 4, "students[0].teacher: 'a' cannot teach itself"),
        ({"b": "bb"}, 5, "students[1].teacher: no student is named 'bb' (known: a, c)"),
        ({"b": "aa"}, 5, "students[1].teacher: no student is named 'aa'; did you mean 'a'? (known: a, c)"),
        ({"c": "teacher"}, 6, "students[2].teacher: no student is named 'teacher' (known: a, b)"),
        (
            {"a": "c", "b": "c", "c": "b"}, 6,
            "students[2].teacher: c, b, c: each learns from the next, and none from the pipeline's own teacher",
        ),
        ({"a": "{grid: [b, c]}"}, 4, "students[0].teacher: 'teacher' cannot be a grid"),
    ],
)  # fmt: skip
def test_a_student_whom_nobody_can_teach_is_refused_with_its_line(
    tmp_path: Path, teachers: dict[str, str], line: int, message: str
) -> None:
    lines = ["name: chain", "teacher: {model: {name: cnn}}", "students:"]
    for name in "abc":
        teacher = f", teacher: {teachers[name]}" if name in teachers else ""
        lines.append(f"  - {{name: {name}, model: {{name: cnn}}{teacher}}}")
    path = tmp_path / "chain.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")

    with pytest.raises(InvalidSpec) as refused:
        PipelineSpec.load(path)

    assert str(refused.value) == f"{path}:{line}: {message}"


def test_an_average_may_be_that_of_an_assistants_seeds(make_spec: MakeSpec) -> None:
    def spec(seeds: int) -> PipelineSpec:
        return make_spec(students=[student("a", seeds=seeds), student("b", "a", seeds=2)], average="logits")

    assert spec(2).average == "logits"
    with pytest.raises(ValueError, match="several teachers, or an assistant with several seeds"):
        spec(1)
