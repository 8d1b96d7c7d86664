"""What a spec may say, and what is said of a wrong one."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors.numpy import save

from distill_queue.shared.errors import InvalidSettings, InvalidSpec
from distill_queue.shared.plan.plan import Plan
from distill_queue.shared.plan.stage import Stage, label_file_ref
from distill_queue.shared.spec.models.mlp import MlpSpec
from distill_queue.shared.spec.part import as_arguments
from distill_queue.shared.spec.pipeline import PipelineSpec
from tests.properties import examples

GOOD = """\
name: digits
teacher:
  model: {name: mlp, hidden: [512, 256]}
  training: {epochs: 5, learning_rate: 1e-3}
students:
  - name: small
    model: {name: mlp, hidden: [128]}
    distillation: {temperature: 4, alpha: 0.9}
"""


ALIAS_BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 8)}]\n" for last, name in pairwise("abcdefgh")
)


def weights_of_good(prefix: str = "", **changes: Any) -> dict[str, Any]:
    """Weights of the spec's teacher, with some changed."""
    shapes = MlpSpec(hidden=(512, 256)).tensors((1, 28, 28), 10) or {}
    assert shapes is not None
    made = {name: np.zeros(tuple(length or 0 for length in shape), np.float32) for name, shape in shapes.items()}
    return {f"{prefix}{name}": array for name, array in (made | changes).items()}


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., PipelineSpec]:
    """Load a spec from text."""

    def load(text: str, name: str = "spec.yaml") -> PipelineSpec:
        path = tmp_path / name
        path.write_text(text)
        return PipelineSpec.load(path)

    return load


def test_a_short_spec_has_good_defaults(load: Callable[..., PipelineSpec]) -> None:
    spec = load(GOOD)

    assert spec.dataset.name == "mnist_5k"
    assert spec.teacher.training.learning_rate == 1e-3
    assert spec.students[0].training.batch_size == 256
    assert spec.evaluation.control
    assert spec.device == "any"


def test_yaml_json_and_toml_say_the_same(load: Callable[..., PipelineSpec]) -> None:
    spec = load(GOOD)
    toml = """
name = "digits"
[teacher]
model = {name = "mlp", hidden = [512, 256]}
training = {epochs = 5, learning_rate = 1e-3}
[[students]]
name = "small"
model = {name = "mlp", hidden = [128]}
distillation = {temperature = 4, alpha = 0.9}
"""

    assert load(json.dumps(spec.model_dump(mode="json", exclude_unset=True)), "spec.json") == spec
    assert load(toml, "spec.toml") == spec


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (
            "temperature",
            "temperture",
            ":8: students[0].distillation.temperture: unknown key; did you mean 'temperature'",
        ),
        ("name: digits", "nam: digits", ":1: nam: unknown key; did you mean 'name'?"),
        ("mlp, hidden: [128]", "mpl", ":7: students[0].model.name: unknown model 'mpl'; did you mean 'mlp'?"),
        (
            "name: digits",
            "name: digits\ndataset: {name: mnst}",
            ":2: dataset.name: unknown data set 'mnst'; did you mean",
        ),
        (
            "hidden: [128]",
            "width: 3",
            ":7: students[0].model.width: unknown key (known: dropout, hidden, input_dropout, name)",
        ),
        ("[128]", "[128, x]", "students[0].model.hidden[1]: input should be a valid integer"),
        ("[128]", "3", ":7: students[0].model.hidden: a list is needed, not 3"),
        (
            "name: digits",
            "name: digits\naccept: [channels_last, unused_clases]",
            ":2: accept[1]: unknown kind of warning 'unused_clases'; did you mean 'unused_classes'? (known: bad_",
        ),
        ("name: digits", "name: digits\naccept: unused_classes", ':2: accept: a list is needed, not "unused_classes"'),
        (
            "epochs: 5, learning_rate: 1e-3}",
            "epochs: 5, learning_rate: 1e-3}\n  normalise: unit",
            ":5: teacher.normalise: a teacher that is trained here takes what all models here take",
        ),
        ("name: digits", "name: digits\ntime_limits: 3", ":2: time_limits: a mapping is needed, not 3"),
        ("name: digits", "name: digits\nnonsense: 3", ":2: nonsense: unknown key (known: "),
        (
            "name: digits",
            "name: prüfung",
            ":1: name: \"prüfung\" is no valid name: 'ü' (U+00FC) is none of letters (A to Z, a to z), digits, ",
        ),
        ("name: digits", f"name: {'a' * 64}", "... is no valid name: it has 64 characters, 63 are the most"),
        ("name: digits", "name: ''", ':1: name: "" is no valid name: it is empty'),
        (
            "name: small",
            r'name: "a\u200bb"',
            "is no valid name: U+200B is none of letters (A to Z",
        ),
        (
            "{name: mlp, hidden: [128]}",
            "{name: torchvision/ResNet18}",
            "\"torchvision/ResNet18\" is no valid name of a model: it begins with 'R', not with a small letter",
        ),
        (
            "{name: mlp, hidden: [128]}",
            "{name: torchvision/resnet18, weights: IMAGENET 1K}",
            ".weights: \"IMAGENET 1K\" is no valid name of weights: ' ' is none of letters (A to Z, a to z), digits",
        ),
        (
            "{name: mlp, hidden: [128]}",
            "{name: 'mine:net', options: {widths: {of: 3}}}",
            "model.options.widths: an option is text, a finite number, true, false, null, or a list of such, "
            'not {"of": 3}',
        ),
        ("{name: mlp, hidden: [128]}", "{name: 'mine:net', options: {a: [.inf]}}", "or a list of such, not [Infinity]"),
        (
            "{name: mlp, hidden: [128]}",
            "{name: 'mine:net', options: {a: [[[[[[[[[1]]]]]]]]]}}",
            "a list of such, not [[",
        ),
        ("[128]", "[0]", "students[0].model.hidden[0]: input should be greater than or equal to 1, not 0"),
        ("epochs: 5", "epochs: true", ":4: teacher.training.epochs: input should be a valid integer, not true"),
        ("epochs: 5", "epochs: '5'", "teacher.training.epochs: input should be a valid integer"),
        (
            "epochs: 5",
            "optimizer: adm",
            "teacher.training.optimizer: input should be 'adam', 'adamw' or 'sgd', not \"adm\"",
        ),
        ("alpha: 0.9", "alpha: 1.1", ":8: students[0].distillation.alpha: input should be less than or equal to 1"),
        ("alpha: 0.9", "alpha: -0.1", "alpha: input should be greater than or equal to 0"),
        ("temperature: 4", "temperature: 0", "temperature: input should be greater than 0, not 0"),
        ("temperature: 4", "temperature: .nan", "temperature: input should be a finite number"),
        ("temperature: 4", "temperature: 4, temperature: 5", ":8: the key 'temperature' stands here twice"),
        ("name: small", "name: ../small", ":6: students[0].name: \"../small\" is no valid name: it begins with '.', "),
        ("{name: mlp, hidden: [128]}", "mlp", "a model is a mapping with a name, as in {name: mlp, hidden: [128]}"),
        ("{name: mlp, hidden: [128]}", "{name: mlp}", ":7: students[0].model.hidden: required key is missing"),
        (
            "training: {epochs: 5, learning_rate: 1e-3}",
            "checkpoint: absent.safetensors",
            ":4: teacher.checkpoint: no such",
        ),
        ("learning_rate: 1e-3}", "}\n  checkpoint: x", "a teacher with a checkpoint is not trained"),
        ("students:", "students: [", "not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(
    load: Callable[..., PipelineSpec], right: str, wrong: str, message: str
) -> None:
    assert right in GOOD

    with pytest.raises(InvalidSpec) as raised:
        load(GOOD.replace(right, wrong))

    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


#: A spec in which every part says something.
FULL = {
    "name": "full",
    "dataset": {"name": "mine:data", "options": {"a": 1}, "version": "1", "validation": 0.1, "labelled": 5},
    "teacher": {
        "model": {"name": "mine:net", "options": {"b": [1, 2]}, "version": "1"},
        "training": {"epochs": 2, "augmentation": {"shift": 1}, "patience": 2},
    },
    "average": "probabilities",
    "soft_labels": {"dtype": "float16", "top_k": 3, "views": 2, "augmentation": {"shift": 1}, "shards": 2},
    "students": [
        {
            "name": "one",
            "model": {"name": "mlp", "hidden": [8]},
            "distillation": {"loss": "mine:loss", "options": {"c": 1.0}, "temperature": 2},
            "training": {"epochs": 2, "seed": 1},
            "seeds": 2,
        },
        {
            "name": "two",
            "model": {"name": "torchvision/resnet18", "weights": "IMAGENET1K_V1"},
            "training": {"epochs": {"grid": [1, 2]}},
        },
    ],
    "evaluation": {"control": True},
    "time_limits": {"distill": 5},
}
#: Each of them is wrong in most places, and one mistake.
WRONG_VALUES = [None, True, -7, 2.5, "nö", [], ["a"], [[{}]], {"a": 1}, {"grid": []}, {"grid": ["x y"]}]


def places(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every place in mappings and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def said_of(spec: dict[str, Any]) -> str:
    """With what words a spec is refused, if it is."""
    try:
        PipelineSpec.of(spec)
    except InvalidSpec as error:
        return str(error)
    return ""


@pytest.mark.parametrize("place", list(places(FULL)), ids=lambda place: ".".join(map(str, place)))
def test_a_wrong_value_is_one_message_wherever_it_stands(place: tuple[str | int, ...]) -> None:
    *way, last = place

    for wrong in WRONG_VALUES:
        spec = copy.deepcopy(FULL)
        part: Any = spec
        for key in way:
            part = part[key]
        part[last] = wrong
        assert said_of(spec).count("\n") == 0, wrong


def test_a_list_is_an_option_that_travels_as_it_is() -> None:
    spec = PipelineSpec.of(FULL)
    stage = Plan.of(spec).trunk[1]

    sent = Stage.model_validate(json.loads(stage.model_dump_json()))

    assert spec.teacher.model.options == {"b": (1, 2)}
    assert as_arguments(sent.recipe.model.options) == {"b": [1, 2]}
    assert (sent.key, sent.of_this_version) == (stage.key, True)


def test_keys_of_options_are_what_they_were_before_lists() -> None:
    options = {"a": 1, "b": 1.0, "c": True, "d": None, "e": "t", "f": -0.0, "g": 10**20, "h": 1e22}
    spec = PipelineSpec.of(FULL | {"dataset": {"name": "mine:data", "options": options, "validation": 0.1}})

    # As they were but for the revision that concerns own data, of whose channels some may be constant.
    assert Plan.of(spec).trunk[0].key == "671505b4532f1735b907e7cab6476564c2362836ef8bcb5c7d512bce5c95a1b7"


def test_every_mistake_is_named_in_one_go(load: Callable[..., PipelineSpec]) -> None:
    with pytest.raises(InvalidSpec) as raised:
        load(GOOD.replace("alpha: 0.9", "alpha: 9").replace("epochs: 5", "epochs: 0"))

    assert len(str(raised.value).splitlines()) == 2


def test_a_key_of_digits_is_an_unknown_key_however_long(load: Callable[..., PipelineSpec]) -> None:
    spec = yaml.safe_load(GOOD)
    spec["teacher"]["training"]["9" * 5_000] = 1

    with pytest.raises(InvalidSpec) as error:
        load(json.dumps(spec), "spec.json")

    assert "unknown key" in str(error.value)
    assert len(str(error.value)) < 1_000


def test_students_need_names_of_their_own(load: Callable[..., PipelineSpec]) -> None:
    twice = GOOD + GOOD.partition("students:\n")[2]

    with pytest.raises(InvalidSpec, match="two students are named 'small'"):
        load(twice)


def test_a_pipeline_needs_a_student(load: Callable[..., PipelineSpec]) -> None:
    with pytest.raises(InvalidSpec, match="students: at least one is needed"):
        load(GOOD.partition("students:")[0] + "students: []")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("- a", "a spec is a mapping"),
        ("[" * 5000, "nested too deeply"),
        (ALIAS_BOMB, "more than 50,000 values"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)  # fmt: skip
def test_rubbish_is_refused_in_a_moment(load: Callable[..., PipelineSpec], text: str, message: str) -> None:
    with pytest.raises(InvalidSpec, match=message):
        load(text)


def test_a_missing_file_and_a_wrong_format_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match=r"absent\.yaml: No such file"):
        PipelineSpec.load(tmp_path / "absent.yaml")
    (tmp_path / "spec.ini").touch()
    with pytest.raises(InvalidSpec, match=r"unknown format '\.ini'"):
        PipelineSpec.load(tmp_path / "spec.ini")


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_any_text_is_a_spec_or_one_error(load: Callable[..., PipelineSpec], text: str) -> None:
    with pytest.raises(InvalidSpec):
        load(text.encode("utf-8", "replace").decode())


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)


@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(["name", "dataset", "teacher", "students", "soft_labels", "evaluation", "device"]),
    value=values,
)
def test_any_value_in_any_field_is_taken_or_one_error(
    load: Callable[..., PipelineSpec], tmp_path: Path, field: str, value: Any
) -> None:
    good = load(GOOD).model_dump(mode="json", exclude_unset=True)
    path = tmp_path / "any.json"
    path.write_text(json.dumps(good | {field: value}))

    try:
        PipelineSpec.load(path)
    except InvalidSpec as error:
        assert str(error).startswith(str(path))  # noqa: PT017


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"head.weight": np.zeros((100, 256))},
            "given.safetensors tells 100 classes apart, data set 'mnist_5k' has 10",
        ),
        (
            {"fc.weight": np.zeros((10, 256))},
            "given.safetensors: not the weights of this model: missing layers.0.weight, layers.0.bias, layers.1.weight "
            "and 3 more; unexpected fc.weight",
        ),
        (None, "neither safetensors nor a file of torch.save"),
    ],
)
def test_a_checkpoint_of_other_classes_is_refused_by_the_client(
    load: Callable[..., PipelineSpec], tmp_path: Path, tensors: dict[str, Any] | None, message: str
) -> None:
    given = tmp_path / "given.safetensors"
    given.write_bytes(save(tensors) if tensors else b"rubbish")

    with pytest.raises(InvalidSpec) as raised:
        load(GOOD.replace("training: {epochs: 5, learning_rate: 1e-3}", "checkpoint: given.safetensors"))

    assert ":4: teacher.checkpoint: " in str(raised.value)
    assert message in str(raised.value)


def test_a_checkpoint_of_the_right_classes_is_taken(load: Callable[..., PipelineSpec], tmp_path: Path) -> None:
    (tmp_path / "given.safetensors").write_bytes(save(weights_of_good()))

    spec = load(GOOD.replace("training: {epochs: 5, learning_rate: 1e-3}", "checkpoint: given.safetensors"))

    assert spec.teacher.checkpoint == str(tmp_path / "given.safetensors")


@pytest.mark.parametrize(
    ("content", "change", "message"),
    [
        (
            {"logits": np.eye(9)},
            "",
            ":4: teacher.soft_labels: labels.npz: labels of 9 classes, data",
        ),
        ({"logits": np.zeros((2, 9, 10))}, "", ":4: teacher.soft_labels: labels.npz: labels of 2 views"),
        ({"scores": np.eye(10)}, "", "labels.npz: no array 'logits' (found: scores)"),
        ({"logits": np.eye(10)}, "soft_labels: {shards: 2}", ":5: soft_labels.shards: given labels are not computed"),
    ],
)
def test_labels_that_cannot_teach_are_refused_with_their_line(
    tmp_path: Path, content: dict[str, Any], change: str, message: str
) -> None:
    np.savez(tmp_path / "labels.npz", **content)
    (tmp_path / "spec.yaml").write_text(
        "name: x\ndataset: {name: digits}\nstudents: [{name: s, model: {name: mlp, hidden: [8]}}]\n"
        f"teacher: {{soft_labels: labels.npz}}\n{change}\n"
    )

    with pytest.raises(InvalidSpec) as raised:
        PipelineSpec.load(tmp_path / "spec.yaml")

    assert message in str(raised.value)


def test_labels_under_a_name_with_another_end_are_other_labels(tmp_path: Path) -> None:
    for name in ("a.npz", "a.NPZ"):
        (tmp_path / name).write_bytes(b"the same")

    assert label_file_ref(tmp_path / "a.npz") != label_file_ref(tmp_path / "a.NPZ")


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        (["teacher.training.epochs=7"], ("teacher", "training", "epochs"), 7),
        (["students.0.distillation.temperature=2.5"], ("students", 0, "distillation", "temperature"), 2.5),
        (["students.0.name=other", "students.0.name=last"], ("students", 0, "name"), "last"),
        (["dataset={name: digits, validation: 0.1}"], ("dataset", "validation"), 0.1),
        (["name=a=b"], (), "name"),
    ],
)
def test_values_are_set_before_a_spec_is_read(
    tmp_path: Path, changes: list[str], path: tuple[str | int, ...], value: Any
) -> None:
    (tmp_path / "spec.yaml").write_text(GOOD)

    if not path:
        with pytest.raises(InvalidSpec, match='"a=b" is no valid name'):
            PipelineSpec.load(tmp_path / "spec.yaml", changes)
        return
    found: Any = PipelineSpec.load(tmp_path / "spec.yaml", changes).model_dump()
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("epochs", "--set epochs: write it as students.0.distillation.temperature=2"),
        ("=1", "--set =1: write it as"),
        ("students.7.name=x", "'students' has items 0 to 0, and no '7'"),
        ("students.x.name=x", "'students' has items 0 to 0, and no 'x'"),
        ("name.x=1", "'name' is a value, and has no 'x'"),
        ("name={", "--set name={: not valid YAML"),
    ],
)
def test_a_change_that_names_no_place_is_refused(tmp_path: Path, change: str, message: str) -> None:
    (tmp_path / "spec.yaml").write_text(GOOD)

    with pytest.raises(InvalidSettings, match=re.escape(message)):
        PipelineSpec.load(tmp_path / "spec.yaml", [change])


def test_imagenets_normalisation_of_grey_images_is_told_with_its_field(load: Callable[..., PipelineSpec]) -> None:
    given = GOOD.replace(
        "training: {epochs: 5, learning_rate: 1e-3}", "checkpoint: w.safetensors\n  normalise: imagenet"
    )
    said = (
        "spec.yaml:5: teacher.normalise: imagenet is of 3 channels, and samples of 'mnist_5k' are of shape (1, 28, 28)"
    )

    with pytest.raises(InvalidSpec, match=re.escape(said)):
        load(given)
