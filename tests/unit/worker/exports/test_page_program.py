"""Programs for the report's page, made of ONNX files."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from distill_queue.shared.results.page_program import PAGE_PROGRAM, PageProgram
from distill_queue.worker.data.split import Split
from distill_queue.worker.exports.deployable import deployable
from distill_queue.worker.exports.page_program import program_of, put, reason_against

SAMPLES = np.random.default_rng(0).integers(0, 256, (50, 1, 4, 4), np.uint8)


def file_of(path: Path, nodes: list[onnx.NodeProto], **constants: Any) -> Path:
    """A file whose nodes make `logits` of `x`, the sample as float32."""
    before = helper.make_node("Cast", ["input"], ["x"], to=TensorProto.FLOAT)
    graph = helper.make_graph(
        [before, *nodes],
        "g",
        [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def layer(path: Path, weight: np.ndarray, *nodes: onnx.NodeProto) -> Path:
    """A file of one layer without anything added, behind other nodes that make `y` of `x`."""
    last = [
        helper.make_node("Flatten", ["y" if nodes else "x"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logits"], transB=1),
    ]
    return file_of(path, [*nodes, *last], w=weight)


def split(samples: np.ndarray) -> Split:
    inputs = torch.from_numpy(samples)
    return Split(inputs, torch.zeros(len(inputs)), torch.zeros(1, 1, 1), torch.ones(1, 1, 1), labelled=len(inputs))


def test_weights_become_8_bits_with_a_factor_for_each_output(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(0, [[1], [100], [0]], (3, 16)).astype(np.float32)
    weight[0, 0] = 0.0

    program = program_of(layer(tmp_path / "m.onnx", weight), SAMPLES)

    linear = program.operations[-1]
    integers = np.frombuffer(base64.b64decode(str(linear["weights"])), np.int8).reshape(3, 16)
    scales = np.frombuffer(base64.b64decode(str(linear["scales"])), "<f4")
    assert (np.abs(integers).max(1) == [127, 127, 0]).all()
    np.testing.assert_allclose(integers * scales[:, None], weight, atol=np.abs(weight).max() / 254 + 1e-6)
    assert np.abs(integers[0] * scales[0] - weight[0]).max() <= scales[0] / 2 * 1.001
    assert program.shape == (1, 4, 4)
    assert (program.samples, program.reason) == (50, None)


def test_operations_are_named_in_order_and_a_program_is_the_same_each_time(tmp_path: Path) -> None:
    weight = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    file = layer(tmp_path / "m.onnx", weight, helper.make_node("Relu", ["x"], ["y"]))

    first, second = program_of(file, SAMPLES), program_of(file, SAMPLES)

    assert [each["kind"] for each in first.operations] == ["same", "clip", "same", "linear"]
    assert [(each["inputs"], each["output"]) for each in first.operations] == [
        (["0"], "1"), (["1"], "2"), (["2"], "3"), (["3"], "4"),
    ]  # fmt: skip
    assert first.model_dump_json() == second.model_dump_json()


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("Transpose", {"perm": [0, 1, 3, 2]}, "the page's code has no Transpose"),
        ("Erf", {}, "the page's code has no Erf"),
        ("LpPool", {"kernel_shape": [2, 2]}, "the page's code has no LpPool"),
    ],
)
def test_another_operator_leaves_a_model_without_a_program_and_is_named(
    kind: str, options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    values = 9 if kind == "LpPool" else 16
    file = layer(tmp_path / "m.onnx", np.ones((2, values), np.float32), helper.make_node(kind, ["x"], ["y"], **options))

    program = program_of(file, SAMPLES)

    assert program.reason == reason
    assert program.operations == ()


def test_what_an_operator_does_that_the_page_does_not_is_said(tmp_path: Path) -> None:
    node = helper.make_node("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])
    flat = helper.make_node("Flatten", ["y"], ["logits"])
    numbers = {"starts": [3], "ends": [-9], "axes": [3], "steps": [-1]}

    file = file_of(
        tmp_path / "m.onnx", [node, flat], **{name: np.array(value, np.int64) for name, value in numbers.items()}
    )

    assert program_of(file, SAMPLES).reason == "the page's code has no Slice of the batch or backwards"


def test_answers_that_change_leave_a_model_without_a_program(tmp_path: Path) -> None:
    # One large weight, of a pixel that is always black, hides the small ones.
    weight = np.full((2, 16), 1e-3, np.float32)
    weight[1] *= 1.1
    weight[:, 0] = 1e3
    samples = SAMPLES.copy()
    samples[..., 0, 0] = 0

    program = program_of(layer(tmp_path / "m.onnx", weight), samples)

    assert program.reason == "weights of 8 bits change 100.0% of its answers"


def test_a_model_of_many_parameters_or_of_other_samples_has_none() -> None:
    small, large = nn.Linear(16, 2), nn.Linear(16, 70_000)
    images, bytes_ = split(SAMPLES), split(np.zeros((2, 16), np.uint8))
    floats, wide = split(np.zeros((2, 1, 4, 4), np.float32)), split(np.zeros((2, 1, 4, 65), np.uint8))

    assert reason_against(deployable(small, images), images) is None
    assert reason_against(deployable(large, images), images) == (
        "it has 1,190,000 parameters, and a page takes 1,000,000 bytes"
    )
    for other in (bytes_, floats, wide):
        assert str(reason_against(deployable(small, other), other)).startswith("its samples are not images")


def test_a_reason_is_a_program_that_can_be_read(tmp_path: Path) -> None:
    record = put(PageProgram(reason="the page's code has no Erf"), tmp_path)

    read = PageProgram.read((tmp_path / PAGE_PROGRAM).read_bytes(), PAGE_PROGRAM)
    assert read.record == record
    assert record.summary == "none: the page's code has no Erf"
