"""Page operations: nodes of ONNX's graphs as operations of a program, a function for each operator."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Operation = dict[str, Any]


class NotInPage(Exception):
    """Why a graph has no program."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A graph for one sample: all constants, the shape of each tensor without the batch, and what was rounded."""

    constants: dict[str, Array]
    #: None of a tensor that has no batch of one in front, or whose shape is not known.
    shapes: dict[str, tuple[int, ...] | None]
    #: The weights as the page has them, by the names of the constants that they are to be in place of.
    rounded: dict[str, Array] = field(default_factory=dict)
    #: Multiply-adds of each layer.
    multiply_adds: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Node:
    """One node of a graph."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    options: dict[str, Any]
    graph: Graph

    def operation(self, kind: str, *inputs: str, **options: Any) -> Operation:
        """An operation with this node's output; of its first input where none is named."""
        return {
            "kind": kind,
            "inputs": list(inputs or self.inputs[:1]),
            "output": self.output,
            "shape": list(self.shape_of(self.output)),
        } | options

    def shape_of(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without the batch.

        Raises:
            NotInPage: it is not known, or the batch does not come first.

        """
        shape = self.graph.shapes.get(name)
        if shape is None:
            raise NotInPage(f"{self.kind} whose shape is not a sample's")
        return shape

    def constant(self, place: int) -> Array | None:
        """A constant input; None where the node has no such input, or it is computed."""
        return self.graph.constants.get(self.inputs[place]) if place < len(self.inputs) else None

    def numbers(self, place: int, option: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """Whole numbers that are an input, or an option in earlier versions of the operator.

        Raises:
            NotInPage: they are neither.

        """
        found = self.constant(place)
        given = found.reshape(-1).tolist() if found is not None else self.options.get(option, default)
        if given is None:
            raise NotInPage(f"{self.kind} whose {option} are computed")
        return tuple(int(each) for each in given)

    def require(self, fits: bool, what: str) -> None:
        """Refuse what the page's code does not do.

        Raises:
            NotInPage: it does not fit.

        """
        if not fits:
            raise NotInPage(f"{self.kind} {what}")


def operation_of(node: Node) -> Operation:
    """What a node becomes.

    Raises:
        NotInPage: the page's code has no such operation.

    """
    if node.kind not in OPERATIONS:
        raise NotInPage(node.kind)
    return OPERATIONS[node.kind](node)


def packed(array: Array) -> str:
    """Numbers as the page reads them: base64 of int8, else of float32 with the low byte first."""
    return base64.b64encode(array.astype("int8" if array.dtype == np.int8 else "<f4").tobytes()).decode()


def _convolution(node: Node) -> Operation:
    weight, shape = _weight(node), node.shape_of(node.output)
    node.require(weight.ndim == 4, "in other than two dimensions")
    node.graph.multiply_adds.append(math.prod(shape[1:]) * weight.size)
    return node.operation(
        "convolution",
        **_rounded(node, weight, channels_first=True),
        **_window(node, weight.shape[2:]),
        groups=node.options.get("group", 1),
    )


def _linear(node: Node) -> Operation:
    weight, matmul = _weight(node), node.kind == "MatMul"
    plain = node.options.get("alpha", 1.0) == node.options.get("beta", 1.0) == 1.0
    node.require(weight.ndim == 2 and len(node.shape_of(node.inputs[0])) == 1, "of more than one row a sample")
    node.require(plain and not node.options.get("transA", 0), "with factors")
    node.graph.multiply_adds.append(weight.size)
    return node.operation(
        "linear", **_rounded(node, weight, channels_first=not matmul and bool(node.options.get("transB", 0)))
    )


def _pool(node: Node) -> Operation:
    kind = "largest" if node.kind == "MaxPool" else "average"
    kernel = tuple(node.options["kernel_shape"])
    node.require(len(kernel) == 2, "in other than two dimensions")
    padded = bool(node.options.get("count_include_pad", 0))
    node.require(not (padded and node.options.get("ceil_mode", 0)), "that counts padding and rounds up")
    return node.operation(kind, **_window(node, kernel), counts_padding=padded)


def _mean(node: Node) -> Operation:
    if node.kind == "ReduceMean":
        rank = len(node.shape_of(node.inputs[0])) + 1
        axes = sorted(axis % rank for axis in node.numbers(1, "axes"))
        node.require(rank == 4 and axes == [2, 3], "over other axes than height and width")
    return node.operation("mean")


def _scale(node: Node) -> Operation:
    """Arithmetic with a constant as `x * scale + shift`; of two tensors, their sum or product."""
    left, right = node.constant(0), node.constant(1)
    if left is None and right is None:
        node.require(node.kind in ("Add", "Mul"), "of two computed tensors")
        shape = node.shape_of(node.output)
        fitting = (shape, (*shape[:1], 1, 1)) if len(shape) == 3 else (shape,)
        node.require(all(node.shape_of(name) in fitting for name in node.inputs), "that repeats a tensor")
        return node.operation("sum" if node.kind == "Add" else "product", *node.inputs)
    value = (left if left is not None else right).astype(np.float64)  # type: ignore[union-attr]
    one, none = np.ones_like(value), np.zeros_like(value)
    match node.kind, left is not None:
        case "Add", _:
            scale, shift = one, value
        case "Mul", _:
            scale, shift = value, none
        case "Sub", False:
            scale, shift = one, -value
        case "Sub", True:
            scale, shift = -one, value
        case "Div", False:
            scale, shift = 1.0 / value, none
        case _:
            raise NotInPage(f"{node.kind} of a constant by a tensor")
    return _affine(node, node.inputs[1 if left is not None else 0], scale, shift)


def _batch_norm(node: Node) -> Operation:
    found = [node.constant(place) for place in range(1, 5)]
    node.require(all(each is not None for each in found), "with computed statistics")
    weight, bias, mean, variance = (np.asarray(each, np.float64) for each in found)
    scale = weight / np.sqrt(variance + node.options.get("epsilon", 1e-5))
    channels = (-1, *[1] * (len(node.shape_of(node.output)) - 1))
    return _affine(node, node.inputs[0], scale.reshape(channels), (bias - mean * scale).reshape(channels))


def _affine(node: Node, name: str, scale: Array, shift: Array) -> Operation:
    """`x * scale + shift`, with a number for each channel, or for each value where they differ within channels."""
    shape = node.shape_of(node.output)
    node.require(node.shape_of(name) == shape, "that repeats a tensor")
    many = len(shape) == 3 and all(each.ndim < 2 or each.shape[-2:] == (1, 1) for each in (scale, shift))
    many = many and all(each.ndim != 1 or each.size == 1 for each in (scale, shift))
    wanted = (shape[0], 1, 1) if many else shape
    values = [np.broadcast_to(each.reshape(each.shape[-len(shape) :]), wanted) for each in (scale, shift)]
    return node.operation("scale", name, scale=packed(values[0]), shift=packed(values[1]))


def _same(node: Node) -> Operation:
    before, after = (math.prod(node.shape_of(name)) for name in (node.inputs[0], node.output))
    node.require(before == after, "that changes the number of values")
    return node.operation("same")


def _cast(node: Node) -> Operation:
    node.require(node.options["to"] == 1, "to another type than float32")
    return node.operation("same")


def _clip(node: Node) -> Operation:
    low, high = node.constant(1), node.constant(2)
    limits = {name: float(each) for name, each in (("low", low), ("high", high)) if each is not None}
    return node.operation("clip", **limits)


def _activation(kind: str, **defaults: float) -> Callable[[Node], Operation]:
    """An operation on each value, with options that have these defaults."""
    return lambda node: node.operation(
        kind, **{name: float(node.options.get(name, default)) for name, default in defaults.items()}
    )


def _slice(node: Node) -> Operation:
    shape = node.shape_of(node.inputs[0])
    starts, ends = node.numbers(1, "starts"), node.numbers(2, "ends")
    axes = node.numbers(3, "axes", tuple(range(len(starts))))
    steps = node.numbers(4, "steps", (1,) * len(starts))
    kept = [range(size) for size in shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis % (len(shape) + 1) - 1
        whole = place < 0 and start == 0 and end >= 1 and step == 1
        node.require(whole or (place >= 0 and step > 0), "of the batch or backwards")
        if place >= 0:
            kept[place] = kept[place][start:end:step]
    node.require(all(kept), "that keeps nothing")
    return node.operation("slice", starts=[each.start for each in kept], steps=[each.step for each in kept])


def _pad(node: Node) -> Operation:
    rank = len(node.shape_of(node.inputs[0])) + 1
    pads = node.numbers(1, "pads")
    axes = tuple(axis % rank for axis in node.numbers(3, "axes", tuple(range(rank))))
    before = dict(zip(axes, pads[: len(axes)], strict=True))
    after = dict(zip(axes, pads[len(axes) :], strict=True))
    node.require(node.options.get("mode", b"constant") == b"constant", "by mirrored values")
    node.require(min(pads) >= 0 and not before.get(0) and not after.get(0), "of the batch, or by less than nothing")
    value = node.constant(2)
    fill = 0.0 if value is None or not value.size else float(value.reshape(-1)[0])
    return node.operation("pad", before=[before.get(axis, 0) for axis in range(1, rank)], value=fill)


def _concatenate(node: Node) -> Operation:
    rank = len(node.shape_of(node.output)) + 1
    node.require(node.options["axis"] % rank == 1, "along another axis than the channels")
    node.require(not any(name in node.graph.constants for name in node.inputs), "of constants")
    return node.operation("concatenate", *node.inputs)


def _weight(node: Node) -> Array:
    weight = node.constant(1)
    if weight is None or node.inputs[0] in node.graph.constants:
        raise NotInPage(f"{node.kind} with computed weights")
    return weight


def _rounded(node: Node, weight: Array, *, channels_first: bool) -> dict[str, str]:
    """Weights in 8 bits with a factor for each output, and what is added to each output."""
    rows = weight if channels_first else weight.T
    flat = rows.reshape(len(rows), -1).astype(np.float64)
    scales = np.abs(flat).max(1, initial=0.0) / 127.0
    scales = np.where(scales == 0.0, 1.0, scales).astype(np.float32)
    integers = np.rint(flat / scales[:, None]).clip(-127, 127).astype(np.int8)
    as_used = (integers.astype(np.float32) * scales[:, None]).reshape(rows.shape)
    node.graph.rounded[node.inputs[1]] = as_used if channels_first else as_used.T
    bias = node.constant(2)
    node.require(bias is not None or len(node.inputs) < 3, "with a computed bias")
    added = np.zeros(len(rows), np.float32) if bias is None else np.broadcast_to(bias.reshape(-1), len(rows))
    return {"weights": packed(integers), "scales": packed(scales), "bias": packed(added)}


def _window(node: Node, kernel: tuple[int, ...]) -> dict[str, Any]:
    """How a window of two dimensions moves; of the padding, that above and that to the left."""
    padding = node.options.get("auto_pad", b"NOTSET")
    node.require(padding in (b"NOTSET", b"VALID"), "whose padding is not written down")
    return {
        "kernel": list(kernel),
        "strides": list(node.options.get("strides", (1, 1))),
        "dilations": list(node.options.get("dilations", (1, 1))),
        "pads": list(node.options.get("pads", (0, 0, 0, 0))[:2]),
    }


#: What becomes of each operator: another one is a line here, and a function in the page's code.
OPERATIONS: dict[str, Callable[[Node], Operation]] = {
    "Conv": _convolution,
    "Gemm": _linear,
    "MatMul": _linear,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _mean,
    "ReduceMean": _mean,
    "BatchNormalization": _batch_norm,
    "Add": _scale,
    "Sub": _scale,
    "Mul": _scale,
    "Div": _scale,
    "Relu": _activation("clip", low=0.0),
    "Clip": _clip,
    "LeakyRelu": _activation("leaky", alpha=0.01),
    "Sigmoid": _activation("sigmoid"),
    "HardSigmoid": _activation("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": _activation("hard_swish"),
    "Tanh": _activation("tanh"),
    "Flatten": _same,
    "Reshape": _same,
    "Squeeze": _same,
    "Unsqueeze": _same,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
    "Slice": _slice,
    "Pad": _pad,
    "Concat": _concatenate,
}
