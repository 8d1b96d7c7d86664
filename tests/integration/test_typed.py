"""What users type: specs, changes and settings that cannot be used are one message, in bounded time and memory."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from distill_queue.shared.errors import DistillError
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.settings import Settings
from distill_queue.shared.spec.file import SpecFile
from distill_queue.shared.spec.pipeline import PipelineSpec

#: What one input may take; the time where other tests run beside this one, alone it is a third.
SECONDS, MEGABYTES = 3.0, 200


def data(**changes: Any) -> dict[str, Any]:
    """A spec that can be used, but for the changes."""
    mlp = {"model": {"name": "mlp", "hidden": [8]}}
    spec = {"name": "a", "dataset": {"name": "digits", "validation": 0.1}, "teacher": mlp, "students": [student()]}
    return spec | changes


def student(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {"name": f"s{number}", "model": {"name": "mlp", "hidden": [8]}} | changes


def grid(values: int) -> dict[str, Any]:
    return {"temperature": {"grid": [1 + n / 10 for n in range(values)]}}


#: Specs whose parts are no mistakes of the format: what is wrong with them, or with reading them.
SPECS = {
    "24,000 students": (data(students=[{f"modle{n}": 1} for n in range(24_000)]), "students: 24000 items: 1000 are"),
    "24,000 teachers": (data(teachers=[{f"modle{n}": 1} for n in range(24_000)]), "teachers: 24000 items: 100 are"),
    "40,000 kinds": (data(accept=[f"unused{n}" for n in range(40_000)]), "accept: 40000 items: 100 are the most"),
    "1,000 mistakes": (data(students=[{f"modle{n}": 1} for n in range(1_000)]), "spec: and more mistakes"),
    "40,000 widths": (data(teacher={"model": {"name": "mlp", "hidden": ["x"] * 40_000}}), "spec: and more mistakes"),
    "40,000 limits": (data(time_limits={f"k{n}": "x" for n in range(40_000)}), "spec: and more mistakes"),
    "grids": (data(students=[student(n, distillation=grid(256)) for n in range(180)]), "46,080 trainings, as"),
    "seeds": (data(students=[student(n, seeds=100) for n in range(1_000)]), "100,000 trainings, as"),
    "a large grid": (data(students=[student(0, distillation=grid(256), x=[1] * 40_000)]), "values with all grids"),
    "grids in grids": (
        data(students=[student(0, distillation={f"k{n}": {"grid": [1, 2]} for n in range(10_000)})]),
        "1,000,000,000 trainings, as",
    ),
    "a long name": (data(name="x" * 900_000), "it has 900,000 characters, 63 are the most"),
    "a long key": (data(**{"x" * 900_000: 1}), "unknown key"),
    "a long model": (data(teacher={"model": {"name": "a." * 300_000 + "!"}}), "unknown model"),
    "a long path": (data(teacher=data()["teacher"] | {"checkpoint": "a/" * 300_000}), "more than 4,096 characters"),
    "a path with a NUL": (data(teacher=data()["teacher"] | {"checkpoint": "a\0b"}), "no path of a file"),
    "a device": (data(teacher=data()["teacher"] | {"checkpoint": "/dev/zero"}), "a pipe or a device: /dev/zero"),
}
#: Texts of specs, by the end of their file's name.
TEXTS = [
    ("json", "{" + ",".join(f'"k{n}":1' for n in range(60_000)) + "}", "more than 50,000 values"),
    ("json", '{"name":' * 900 + "1" + "}" * 900, "nested too deeply"),
    ("toml", ".".join("a" * 50_000) + "=1", "nested too deeply"),
    ("toml", "".join(f"[a{n}]\n" for n in range(45_000)), "a0: unknown key"),
    ("toml", "".join(f"{'.'.join('a' * 50)}.b{n}=1\n" for n in range(4_000)), "a: unknown key"),
    ("toml", "name=" + "9" * 5_001, "a number of more than 300 digits"),
    ("yaml", "name: !!bool abc", ":1: 'abc' is no bool"),
    ("yaml", "name: !!int [1]", ":1: not valid YAML"),
    ("yaml", "name: &a [*a]", ":1: '*a' is an alias of the value that it stands in"),
    ("yaml", "a: {b: " * 450 + "1" + "}" * 450, ":1: not valid YAML"),
    ("yaml", "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]), "50,000"),
    ("yaml", "[" + "1," * 490_000 + "]", "more than 50,000 values"),
    ("yaml", "[" + "{}," * 300_000 + "]", "more than 50,000 values"),
    ("yaml", "".join(f"k{n}: 1\n" for n in range(40_000)), ":1: k0: unknown key"),
    ("yaml", "name: " + "x " * 490_000, "is no valid name"),
    ("yaml", "#\n" * 490_000, "the file is empty"),
    ("yaml", "".join(f"%TAG !a{n}! x\n" for n in range(50_000)) + "---\na: 1", "directives"),
    ("", "[" * 990_000, "nested too deeply"),
]  # fmt: skip
CHANGES = [
    ("name=!!int x", "--set name=!!int x: 'x' is no int"),
    ("name=!!bool abc", "'abc' is no bool"),
    ("name=" + "9" * 5_001, "999…: a number of more than 300 digits"),
    ("name=" + "[" * 5_000, "[[[…: nested too deeply"),
    ("name=" + "[" * 60 + "[1]" + "]" * 60, "name: input should be a valid string"),
    ("a." * 50_000 + "a=1", "…: nested too deeply"),
    (".".join("a" * 64) + "=[1]", "nested too deeply"),
    ("." * 100_000 + "=1", "write it as students.0"),
    ("students.٠.name=b", "'students' has items 0 to 0, and no '٠'"),
    ("students." + "9" * 5_001 + ".name=b", "'students' has items 0 to 0, and no '999"),
    ("name=&a [*a]", "'*a' is an alias of the value that it stands in"),
    ("name=[&a0 [x,x]," + ",".join(f"&a{n} [*a{n - 1},*a{n - 1}]" for n in range(1, 60)) + "]", "50,000 values"),
    ("accept=[" + ",".join(["x"] * 45_000) + "]", "accept: 45000 items: 100 are the most"),
    ("name=a\0b", "not valid YAML"),
    ("\udcff=1", "no character"),
    ("x" * 100_000 + "=1", "unknown key"),
]
SETTINGS = [
    ("time_limits", "[" * 100_000, "nested too deeply"),
    ("time_limits", '{"a":' * 50_000, "nested too deeply"),
    ("time_limits", '{"train_teacher":' + "9" * 5_001 + "}", "a number of more than 300 digits"),
    ("time_limits", '{"train_teacher":1,"train_teacher":2}', "stands there twice"),
    ("time_limits", '{"\\ud800":1}', "no character"),
    ("time_limits", json.dumps({"x" * 100_000: 1}), "unknown kind of stage 'xxx"),
    ("time_limits", json.dumps(dict.fromkeys(("report", "choose"), "x")), "valid number"),
    ("time_limits", "null", "valid dictionary"),
    ("store", "x" * 100_000, "more than 1,000 characters"),
    ("store", "file:///a%00b", "not a folder"),
    ("cache", "x" * 100_000, "more than 1,000 characters"),
    ("broker_url", "redis://[" + ":" * 100_000, "not a URL"),
    ("broker_url", "redis+socket:///a%00b", "not the path of a socket"),
    ("metrics_address", "x" * 100_000, "no name of a host"),
    ("metrics_address", "a..b", "no name of a host"),
    ("plugins", "a,\x1b[31m", "is no name of a package"),
    ("threads", "9" * 100_000, "as an integer"),
    ("cache_gb", "nan", "finite number"),
    *(
        (name, b"\xff".decode(errors="surrogateescape"), "holds bytes that are no UTF-8")
        for name in Settings.model_fields
    ),
]


def cases(folder: Path) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Each of the inputs, what is to be said of it, and the way in."""
    for name, (spec, message) in SPECS.items():
        yield name, message, lambda spec=spec: Plan.of(PipelineSpec.from_file(SpecFile.of(spec)))  # type: ignore[misc]
    for suffix, text, message in TEXTS:
        path = folder / f"spec.{suffix}".rstrip(".")
        path.write_text(text)
        yield f"{suffix} {text[:20]}", message, partial(PipelineSpec.load, path)
    (folder / "right.yaml").write_text(json.dumps(data()))
    for change, message in CHANGES:
        yield f"--set {change[:20]}", message, partial(PipelineSpec.load, folder / "right.yaml", [change])
    for name, value, message in SETTINGS:
        os.environ[variable := f"DISTILL_{name.upper()}"] = value
        yield f"{variable}={value[:20]!r}", message, Settings.load
        del os.environ[variable]


def costs(folder: Path) -> dict[str, Any]:
    """What is wrong with the answers to all inputs, and the memory that they took, in megabytes."""
    wrong, before = [], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, message, way_in in cases(folder):
        start = time.process_time()
        try:
            way_in()
            said = "nothing"
        except DistillError as error:
            said = str(error)
        seconds = time.process_time() - start
        if message not in said or len(said) > 6_000 or seconds > SECONDS:
            wrong.append(f"{name}: {seconds:.2f} s: {said[:300]}")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"wrong": wrong, "megabytes": (after - before) / 1024}


def test_whatever_is_typed_is_one_message_within_a_second_and_200_megabytes(tmp_path: Path) -> None:
    code = (
        f"import json, pathlib; from {__name__} import costs; print(json.dumps(costs(pathlib.Path({str(tmp_path)!r}))))"
    )
    root = Path(__file__).parents[2]

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)

    found = json.loads(done.stdout or f'{{"wrong": {json.dumps(done.stderr)}, "megabytes": 0}}')
    assert (found["wrong"], found["megabytes"] < MEGABYTES) == ([], True), found["megabytes"]
