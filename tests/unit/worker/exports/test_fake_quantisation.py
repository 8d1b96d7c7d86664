"""Rounded layers: what integers of 8 bits would leave of weights and inputs, beside onnxruntime's own answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill_queue.worker.exports.deployable import INPUT, OUTPUT
from distill_queue.worker.exports.fake_quantisation import Range, ranges_of, round_layers, rounded_weight

onnx = pytest.importorskip("onnx")
onnx_int8 = pytest.importorskip("distill_queue.worker.exports.onnx_int8")
onnx_file = pytest.importorskip("distill_queue.worker.exports.onnx_file")

LAYERS = {"linear": lambda: nn.Linear(6, 24), "grouped convolution": lambda: nn.Conv2d(6, 12, 3, padding=1, groups=2)}


def file_of(layer: nn.Linear | nn.Conv2d, samples: np.ndarray, folder: Path) -> onnx_file.File:
    """A file of integers of a layer, a ReLU and a head that adds nothing, which takes samples in float32."""
    weights = {name: tensor.detach().numpy() for name, tensor in layer.named_parameters()}
    inputs, outputs = samples.shape[1], len(weights["weight"])
    if isinstance(layer, nn.Linear):
        product = onnx.helper.make_node("Gemm", [INPUT, "weight", "bias"], ["found"], "layer", transB=1)
        head = onnx.helper.make_node("Gemm", ["positive", "unit"], [OUTPUT], "head")
        unit, rest = np.eye(outputs, dtype=np.float32), []
    else:
        product = onnx.helper.make_node("Conv", [INPUT, "weight", "bias"], ["found"], "layer", pads=[1] * 4, group=2)
        head = onnx.helper.make_node("Conv", ["positive", "unit"], [OUTPUT], "head")
        unit, rest = np.eye(outputs, dtype=np.float32)[..., None, None], list(samples.shape[2:])
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [product, onnx.helper.make_node("Relu", ["found"], ["positive"], "relu"), head],
        "student",
        [onnx.helper.make_tensor_value_info(INPUT, kind, ["batch", inputs, *rest])],
        [onnx.helper.make_tensor_value_info(OUTPUT, kind, ["batch", outputs, *rest])],
        [onnx.numpy_helper.from_array(values, name) for name, values in {**weights, "unit": unit}.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9)
    made = onnx_int8.quantised(model, "export", iter([{INPUT: samples}]))
    (path := folder / "layer.onnx").write_bytes(made.SerializeToString())
    return onnx_file.File(path)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_rounded_layer_answers_as_onnxruntime_does_with_integers(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_int8, "left_in_float", lambda _: ["head"])
    torch.manual_seed(0)
    layer = LAYERS[kind]()
    shape = (64, 6) if isinstance(layer, nn.Linear) else (64, 6, 5, 5)
    samples = np.random.default_rng(0).normal(0.5, 2.0, shape).astype(np.float32)
    model = nn.Sequential(layer, nn.ReLU(), LAYERS[kind]())

    by_integers = file_of(layer, samples, tmp_path).logits({INPUT: samples})
    round_layers(model, {"0": Range().with_values(torch.from_numpy(samples))})
    with torch.no_grad():
        rounded = model[:2](torch.from_numpy(samples)).numpy()
        plain = layer(torch.from_numpy(samples)).relu().numpy()

    # The file rounds what the layer returns, too: to one of 255 steps, by at most half of one. Where an input lies
    # between two integers, the last bit decides which one is taken.
    step = by_integers.max() / 255
    differences = np.abs(by_integers - rounded)
    assert (differences < 0.51 * step).mean() > 0.99
    assert differences.max() < 2 * step
    assert (np.abs(by_integers - plain) < 0.51 * step).mean() < 0.9


def test_a_weights_outputs_have_a_scale_each() -> None:
    weight = torch.tensor([[1000.0, 3.0], [0.001, -0.0005], [0.0, 0.0]])

    rounded = rounded_weight(weight)

    assert rounded[0].tolist() == pytest.approx([1000.0, 0.0])
    assert rounded[1].tolist() == pytest.approx([0.001, -64 / 127 * 0.001])
    assert rounded[2].tolist() == [0.0, 0.0]


def test_gradients_pass_through_the_rounding_but_not_from_outside_of_the_range() -> None:
    values = torch.tensor([-3.0, 0.3, 9.0], requires_grad=True)

    Range(-1.0, 4.0).rounded(values).sum().backward()

    assert values.grad is not None
    assert values.grad.tolist() == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("found", [Range(), Range(0.0, 4.0), Range(-4.0, 0.0), Range(-1.0, 3.0)])
def test_zero_stays_zero(found: Range) -> None:
    assert found.rounded(torch.zeros(2)).tolist() == [0.0, 0.0]


class Twice(nn.Module):
    """A model with a layer that is used twice, one that is never used, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 3)
        self.inner = nn.ModuleDict({"shared": nn.Linear(4, 4), "unused": nn.Linear(4, 4)})
        self.also = self.inner["shared"]

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.head(self.also(10 * self.inner["shared"](samples)))


def batches() -> Iterator[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    yield from (torch.randn(8, 4, generator=generator) for _ in range(3))


def test_the_layer_that_computes_last_is_the_head_and_stays_as_it_is() -> None:
    torch.manual_seed(0)
    model = Twice()

    ranges = ranges_of(model, batches())
    round_layers(model, ranges)

    assert list(ranges) == ["inner.shared"]
    assert type(model.head) is type(model.inner["unused"]) is nn.Linear
    assert model.also is model.inner["shared"]
    assert type(model.also) is not nn.Linear


def test_a_range_is_that_of_all_calls_and_all_batches() -> None:
    torch.manual_seed(0)
    model = Twice()
    seen = torch.cat([torch.cat([each, 10 * model.also(each)]) for each in batches()]).detach()

    ranges = ranges_of(model, batches())

    assert ranges["inner.shared"] == Range(float(seen.min()), float(seen.max()))


def test_rounding_keeps_a_models_parameters_their_names_and_its_mode() -> None:
    model = Twice().train()
    before = dict(model.named_parameters())

    round_layers(model, ranges_of(model, batches()))

    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in model.modules())
