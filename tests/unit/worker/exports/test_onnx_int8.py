"""Which parts of a model become integers in a file."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill_queue.shared.errors import StageFailed, StoreUnavailable
from distill_queue.worker.exports.deployable import INPUT, OUTPUT

onnx = pytest.importorskip("onnx")
onnx_int8 = pytest.importorskip("distill_queue.worker.exports.onnx_int8")
onnx_file = pytest.importorskip("distill_queue.worker.exports.onnx_file")

RANDOM = np.random.default_rng(0)
SAMPLES = RANDOM.integers(0, 256, (256, 64)).astype(np.uint8)


def weight(*shape: int) -> Any:
    return RANDOM.normal(0, 0.3, shape).astype(np.float32)


def model(hidden: int, classes: int = 10, nodes: tuple[Any, ...] = (), **weights: Any) -> Any:
    """ONNX's model of bytes that are normalised, a layer, further nodes from `positive` to `last`, and a head."""
    make = onnx.helper.make_node
    found = {
        "mean": np.float32(127),
        "std": np.float32(64),
        "layer.weight": weight(hidden, 64),
        "head.weight": weight(classes, hidden),
    } | weights
    graph = onnx.helper.make_graph(
        [
            make("Cast", [INPUT], ["numbers"], "cast", to=onnx.TensorProto.FLOAT),
            make("Sub", ["numbers", "mean"], ["centred"], "sub"),
            make("Div", ["centred", "std"], ["scaled"], "div"),
            make("Gemm", ["scaled", "layer.weight"], ["found"], "layer", transB=1),
            make("Relu", ["found"], ["positive"], "relu"),
            *nodes,
            make("Gemm", ["last" if nodes else "positive", "head.weight"], [OUTPUT], "head", transB=1),
        ],
        "student",
        [onnx.helper.make_tensor_value_info(INPUT, onnx.TensorProto.UINT8, ["batch", 64])],
        [onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", classes])],
        [onnx.numpy_helper.from_array(np.asarray(values), name) for name, values in found.items()],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    entry = made.metadata_props.add()
    entry.key, entry.value = "class names", "[]"
    return made


def quantised(proto: Any) -> Any:
    return onnx_int8.quantised(proto, "export s to onnx-int8", iter([{INPUT: SAMPLES}]))


def answers(proto: Any, folder: Path) -> Any:
    (path := folder / "model.onnx").write_bytes(proto.SerializeToString())
    return onnx_file.File(path).logits({INPUT: SAMPLES})


def kinds(proto: Any) -> dict[str, str]:
    """The element type of each weight, by its name."""
    return {each.name: onnx.TensorProto.DataType.Name(each.data_type) for each in proto.graph.initializer}


def test_layers_become_integers_and_a_small_head_and_the_normalisation_stay_numbers(tmp_path: Path) -> None:
    proto = model(hidden=200, classes=5)

    made = quantised(proto)

    assert kinds(made)["layer.weight_quantized"] == "INT8"
    assert kinds(made)["head.weight"] == "FLOAT"
    assert dict(Counter(node.op_type for node in made.graph.node)) == {
        "Cast": 1, "Sub": 1, "Div": 1, "Gemm": 2, "QuantizeLinear": 2, "DequantizeLinear": 3,
    }  # fmt: skip
    scales = next(each for each in made.graph.initializer if each.name == "layer.weight_scale")
    assert list(scales.dims) == [200]
    assert made.ByteSize() < proto.ByteSize() / 2
    logits, exact = answers(made, tmp_path), answers(proto, tmp_path)
    assert np.abs(logits - exact).max() < 0.01 * np.ptp(exact)
    assert (logits.argmax(1) == exact.argmax(1)).mean() > 0.95


def test_a_head_with_most_of_the_weights_becomes_integers_but_not_its_answers(tmp_path: Path) -> None:
    proto = model(hidden=64, classes=500)

    made = quantised(proto)

    assert kinds(made)["head.weight_quantized"] == "INT8"
    logits, exact = answers(made, tmp_path), answers(proto, tmp_path)
    assert len(np.unique(logits)) > 256
    assert np.abs(logits - exact).max() < 0.02 * np.ptp(exact)


def test_a_table_of_embeddings_becomes_integers_and_sums_stay_numbers() -> None:
    nodes = (
        onnx.helper.make_node("Cast", ["positive"], ["places"], "places", to=onnx.TensorProto.INT64),
        onnx.helper.make_node("Clip", ["places", "zero", "top"], ["rows"], "clip"),
        onnx.helper.make_node("Gather", ["table", "rows"], ["looked_up"], "gather"),
        onnx.helper.make_node("ReduceSum", ["looked_up", "axis"], ["sum"], "sum", keepdims=0),
        onnx.helper.make_node("Add", ["sum", "positive"], ["last"], "add"),
    )
    table, places = weight(100, 64), {"zero": np.int64(0), "top": np.int64(99), "axis": np.array([1])}

    made = quantised(model(64, nodes=nodes, table=table, **places))

    assert kinds(made)["table_quantized"] == "UINT8"
    (added,) = (node for node in made.graph.node if node.op_type == "Add")
    made_by = {output: node.op_type for node in made.graph.node for output in node.output}
    assert made_by[added.input[0]] == "ReduceSum"


def test_the_same_samples_give_the_same_bytes() -> None:
    first, second = (quantised(proto).SerializeToString(deterministic=True) for proto in [model_copy()] * 2)

    assert first == second


def model_copy() -> Any:
    """A model that does not depend on what other tests drew."""
    ones = np.linspace(-1, 1, 64 * 64, dtype=np.float32)
    return model(64, **{"layer.weight": ones.reshape(64, 64), "head.weight": ones[:640].reshape(10, 64)})


def test_facts_stay_and_nothing_of_the_library_is_added_or_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        made = quantised(model(200))

    assert [(each.key, each.value) for each in made.metadata_props] == [("class names", "[]")]
    assert not made.graph.value_info
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET


def test_what_the_library_cannot_do_is_said_in_a_sentence() -> None:
    proto = model(hidden=200)
    proto.graph.node[3].op_type = "Nonsense"

    with pytest.raises(
        StageFailed, match=r"^export s to onnx-int8 cannot be exported to integers of 8 bits: .+ float32$"
    ):
        quantised(proto)


def test_what_is_wrong_with_the_store_is_not_said_to_be_the_librarys() -> None:
    def samples() -> Any:
        raise StoreUnavailable("no such share")
        yield

    with pytest.raises(StoreUnavailable, match="no such share"):
        onnx_int8.quantised(model(200), "export", samples())
