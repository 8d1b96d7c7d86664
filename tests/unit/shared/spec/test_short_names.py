"""Short names: entry points of installed packages, read as the references that they are, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pydantic import ValidationError

from distill_queue.scheduler.client.schema import schema_of_specs
from distill_queue.shared.errors import InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.spec.distillation import DistillationSpec
from distill_queue.shared.spec.pipeline import PipelineSpec

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a package's metadata on the path: its name, and the lines of its entry points."""

    def put(name: str, entry_points: str) -> None:
        folder = tmp_path / name
        (metadata := folder / f"{name}-2.0.dist-info").mkdir(parents=True)
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.0\n")
        (metadata / "entry_points.txt").write_text(entry_points)
        monkeypatch.syspath_prepend(folder)

    return put


def values(model: Any, distillation: Any = None, data: Any = None) -> dict[str, Any]:
    """A spec's, with one student."""
    student = {"name": "s", "model": model, "distillation": distillation or {}}
    return {
        "name": "x",
        "dataset": data or {"name": "digits", "validation": 0.2},
        "teacher": {"model": {"name": "mlp", "hidden": [4]}},
        "students": [student],
    }


MLP = {"name": "mlp", "hidden": [4]}
OF_MINE = (
    "[distill_queue.models]\ntiny = mine:tiny\n[distill_queue.losses]\ncosine = mine.losses:cosine\n"
    "[distill_queue.data_sources]\nmoons = mine:moons\n"
)


def test_a_short_name_plans_the_very_stages_that_its_reference_does(install: Install) -> None:
    install("mine", OF_MINE)
    sizes = {"options": {"sizes": {"grid": [[16, 8], [4]]}}}
    losses: list[dict[str, Any]] = [{"loss": {"grid": ["kd", name]}} for name in ("cosine", "mine.losses:cosine")]

    short = PipelineSpec.of(values({"name": "tiny"} | sizes, losses[0], {"name": "moons", "validation": 0.2}))
    whole = PipelineSpec.of(values({"name": "mine:tiny"} | sizes, losses[1], {"name": "mine:moons", "validation": 0.2}))

    assert short == whole
    assert [stage.key for stage in Plan.of(short).stages] == [stage.key for stage in Plan.of(whole).stages]


def test_a_grid_of_whole_models_takes_short_names_too(install: Install) -> None:
    install("mine", OF_MINE)

    spec = PipelineSpec.of(values({"grid": [MLP, {"name": "tiny"}]}))

    assert [student.model.name for _, student in spec.candidates] == ["mlp", "mine:tiny"]


@pytest.mark.parametrize(
    ("entry_points", "spec", "told"),
    [
        (
            "[distill_queue.losses]\nmse = mine:mse\n",
            values(MLP, {"loss": "mse"}),
            "students[0].distillation.loss: 'mse' is a loss of distill-queue and of mine 2.0 (mine:mse): write the "
            "reference, or uninstall the package",
        ),
        (
            "[distill_queue.models]\nmlp = mine:mlp\n",
            values(MLP),
            "teacher.model.name: 'mlp' is a model of distill-queue and of mine 2.0 (mine:mlp): ",
        ),
        (
            "[distill_queue.data_sources]\ndigits = mine:digits\n",
            values(MLP),
            "dataset.name: 'digits' is a data set of distill-queue and of mine 2.0 (mine:digits): ",
        ),
        (
            "[distill_queue.losses]\ncosine = mine\n",
            values(MLP, {"loss": {"grid": ["kd", "cosine"]}}),
            "students[0].distillation.loss.grid[1]: 'cosine' of mine 2.0 (mine) is not declared as "
            "package.module:callable",
        ),
    ],
)
def test_a_name_that_two_have_is_refused_and_both_are_named(
    install: Install, entry_points: str, spec: dict[str, Any], told: str
) -> None:
    install("mine", entry_points)

    with pytest.raises(InvalidSpec) as raised:
        PipelineSpec.of(spec)

    assert f"spec: {told}" in str(raised.value)


def test_a_name_that_two_packages_have_is_refused(install: Install) -> None:
    install("mine", OF_MINE)
    install("theirs", "[distill_queue.losses]\ncosine = theirs:cosine\n")

    with pytest.raises(InvalidSpec, match=r"loss of mine 2.0 \(mine.losses:cosine\) and of theirs 2.0 \(theirs:cos"):
        PipelineSpec.of(values(MLP, {"loss": "cosine"}))


def test_an_unknown_name_is_told_those_that_packages_have_added(install: Install) -> None:
    install("mine", OF_MINE)

    for spec, known in (
        (
            values(MLP, {"loss": "cosin"}),
            "unknown loss 'cosin'; did you mean 'cosine'? (known: cosine, dist, dkd, kd, ",
        ),
        (values({"name": "tini"}), "unknown model 'tini'; did you mean 'tiny'? (known: cnn, "),
        (
            values(MLP, data={"name": "moon"}),
            "unknown data set 'moon'; did you mean 'moons'? (known: arrays, cifar10, ",
        ),
    ):
        with pytest.raises(InvalidSpec) as raised:
            PipelineSpec.of(spec)
        assert known in str(raised.value)


def test_a_part_that_is_made_in_python_takes_references_only(install: Install) -> None:
    install("mine", OF_MINE)

    with pytest.raises(ValidationError, match=r"'cosine' is short for 'mine.losses:cosine' in files and in Pipeline"):
        DistillationSpec(loss="cosine")


def test_an_editor_takes_the_short_names_of_installed_packages(install: Install) -> None:
    spec = values({"name": {"grid": ["mine:tiny", "tiny"]}}) | {"teacher": {"model": {"name": "tiny"}}}
    without = schema_of_specs()
    install("mine", OF_MINE)

    jsonschema.validate(spec, schema_of_specs())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spec, without)
