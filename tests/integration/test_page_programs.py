"""Programs of exported models, computed by a browser as the report's page computes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, Page

from distill_queue.shared.results.page_program import PageProgram
from distill_queue.worker.exports.onnx_file import File
from distill_queue.worker.exports.page_program import program_of

SHAPE = (4, 9, 7)
Build = Callable[[], tuple[list[onnx.NodeProto], dict[str, np.ndarray]]]


def weights(*shape: int) -> np.ndarray:
    """Integers of 8 bits with the largest one in each row, which rounding to 8 bits leaves as they are."""
    drawn = np.random.default_rng(sum(shape)).integers(-127, 127, shape).astype(np.float32)
    drawn.reshape(shape[0], -1)[:, 0] = 127
    return drawn


def one(kind: str, *constants: tuple[str, Any], **options: Any) -> Build:
    """A graph of one node between the sample and the flattening, with constants as further inputs."""
    arrays = {name: np.asarray(value) for name, value in constants}
    return lambda: ([helper.make_node(kind, ["x", *arrays], ["y"], **options)], arrays)


def gate() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """Channels that are scaled by what their means say, added to what came in."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        helper.make_node("HardSigmoid", ["means"], ["gate"], alpha=1 / 6),
        helper.make_node("Mul", ["x", "gate"], ["gated"]),
        helper.make_node("Add", ["x", "gated"], ["y"]),
    ]
    return nodes, {}


def joined() -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    nodes = [helper.make_node("Relu", ["x"], ["more"]), helper.make_node("Concat", ["x", "more"], ["y"], axis=1)]
    return nodes, {}


INT, FLOAT = np.int64, np.float32
GRAPHS: dict[str, Build] = {
    "convolution": one("Conv", ("w", weights(6, 4, 3, 3)), ("b", np.arange(6, dtype=FLOAT)), pads=[1, 1, 1, 1]),
    "with strides": one("Conv", ("w", weights(5, 4, 3, 2)), strides=[2, 3], pads=[1, 0, 0, 1]),
    "in groups": one("Conv", ("w", weights(8, 2, 3, 3)), group=2, pads=[2, 2, 2, 2], dilations=[2, 2]),
    "each channel alone": one("Conv", ("w", weights(4, 1, 5, 5)), group=4, pads=[2, 2, 2, 2], strides=[2, 2]),
    "largest, rounded up": one("MaxPool", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    "largest, padded": one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "average": one("AveragePool", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 0]),
    "average with padding": one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "mean": one("ReduceMean", ("axes", np.array([2, 3], INT)), keepdims=0),
    "norm": one("BatchNormalization", *((name, np.arange(1, 5, dtype=FLOAT) / 3) for name in "abcd")),
    "slice": one("Slice", *((name, np.array(value, INT)) for name, value in
                            (("starts", [0, 1]), ("ends", [9, 9]), ("axes", [2, 3]), ("steps", [2, 3])))),
    "pad": one("Pad", ("pads", np.array([0, 1, 0, 2, 0, 2, 1, 0], INT)), ("value", np.array(3, FLOAT))),
    "product": one("Mul", ("m", np.arange(4, dtype=FLOAT).reshape(1, 4, 1, 1))),
    "difference": one("Sub", ("m", np.arange(7, dtype=FLOAT))),
    "quotient": one("Div", ("m", np.array(7, FLOAT))),
    "clip": one("Clip", ("low", np.array(-1, FLOAT)), ("high", np.array(6, FLOAT))),
    "leaky": one("LeakyRelu", alpha=0.2),
    "swish": one("HardSwish"),
    "tanh": one("Tanh"),
    "sigmoid": one("Sigmoid"),
    "gate": gate,
    "joined": joined,
}  # fmt: skip


def file_of(build: Build, path: Path, matmul: bool) -> None:
    """A file that takes bytes, about 128 of them nothing, through a graph, and through a layer to three logits."""
    nodes, arrays = build()
    before = [
        helper.make_node("Cast", ["input"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["x"]),
    ]
    arrays |= {"mean": np.array(128, FLOAT), "std": np.array([[[20]], [[30]], [[25]], [[40]]], FLOAT)}
    proto = helper.make_model(
        helper.make_graph(
            [*before, *nodes, helper.make_node("Flatten", ["y"], ["flat"])],
            "g",
            [helper.make_tensor_value_info("input", TensorProto.UINT8, ["batch", *SHAPE])],
            [helper.make_tensor_value_info("flat", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(value, name) for name, value in arrays.items()],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(proto, path)
    length = File(path).logits({"input": np.zeros((1, *SHAPE), np.uint8)}).shape[1]
    head = weights(3, length)
    proto.graph.node.append(
        helper.make_node("MatMul", ["flat", "head"], ["logits"]) if matmul
        else helper.make_node("Gemm", ["flat", "head"], ["logits"], transB=1)
    )  # fmt: skip
    proto.graph.initializer.append(numpy_helper.from_array(head.T.copy() if matmul else head, "head"))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3]))
    onnx.save(proto, path)


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.add_script_tag(content=(files("distill_queue.shared.report") / "program.js").read_text())
    yield page
    page.close()


def logits_in(page: Page, program: PageProgram, samples: np.ndarray) -> np.ndarray:
    call = "([operations, images, shape]) => images.map(image => [...PROGRAM.logitsOf(operations, image, shape)])"
    flat = samples.reshape(len(samples), -1).tolist()
    return np.array(page.evaluate(call, [list(program.operations), flat, list(program.shape)]))


@pytest.mark.parametrize("name", GRAPHS)
def test_a_browser_computes_what_the_file_answers(name: str, page: Page, tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file_of(GRAPHS[name], file, matmul=name in ("mean", "pad"))
    samples = np.random.default_rng(1).integers(0, 256, (20, *SHAPE), np.uint8)

    program = program_of(file, samples)
    found = logits_in(page, program, samples)

    wanted = File(file).logits({"input": samples})
    assert program.reason is None
    assert program.agreement == 1.0
    np.testing.assert_allclose(found, wanted, atol=1e-5 * np.ptp(wanted))
