"""Sums, means, extremes and norms over axes, and normalization by them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, dtype_of, shape_of
from tersenet.targets.litert.layout import Order, channels_last, identity, stored, without
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.elementwise import cast

REDUCTIONS = {"mean": "MEAN", "sum": "SUM", "amax": "REDUCE_MAX", "amin": "REDUCE_MIN", "prod": "REDUCE_PROD"}


def reduce(low: Lowering, node: fx.Node) -> None:
    """A reduction over some axes."""
    arguments = bind(node)
    source = arguments["self"]
    axes, keep = _axes(arguments, len(shape_of(source)))
    value = low.read(node, source, position=0)
    order = value.order if keep else without(value.order, axes)
    code = REDUCTIONS[kind_of(node)]
    places = sorted(value.order.index(axis) for axis in axes)
    inputs = (_as_type(low, node, value.tensor), low.array(places, "int32"))
    options: dict[str, Any] = {"keepDims": True} if keep else {}
    if low.unit(node) is None and value.encoding is not None:  # kinds that let integers pass
        value = low.convert(value, value.order, None, tuple(shape_of(source)))
        inputs = (value.tensor, inputs[1])
    low.result(node, code, inputs, order, **options)


def _as_type(low: Lowering, node: fx.Node, tensor: int) -> int:
    return cast(low, tensor, dtype_of(node)) if low.tensors[tensor].numbers is None else tensor


def _axes(arguments: dict[str, Any], rank: int) -> tuple[list[int], bool]:
    axes = arguments.get("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or range(rank))
    return sorted(axis % rank for axis in axes), bool(arguments.get("keepdim", False))


def arg_extreme(low: Lowering, node: fx.Node) -> None:
    """The index of the largest or the smallest element along an axis."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    if arguments["dim"] is None:
        value = low.read(node, source, identity(len(shape_of(source))), 0)
        flat = low.reshape(value.tensor, (math.prod(shape_of(source)),))
        made = low.emit("ARG_MAX" if kind_of(node) == "argmax" else "ARG_MIN", (flat, low.array([0], "int32")), (), "int64", outputType=4)
        low.define(node, Stored(low.reshape(made, shape_of(node)), identity(len(shape_of(node)))))
        return
    axis = int(arguments["dim"]) % len(shape_of(source))
    low.define(node, _index_of_extreme(low, value, tuple(shape_of(source)), axis, kind_of(node) == "argmax", keep=bool(arguments["keepdim"])))


def _index_of_extreme(low: Lowering, value: Stored, shape: tuple[int, ...], axis: int, largest: bool, *, keep: bool) -> Stored:
    order = without(value.order, [axis])
    left = [size for position, size in enumerate(shape) if position != axis]
    inputs = (value.tensor, low.array([value.order.index(axis)], "int32"))
    made = low.emit("ARG_MAX" if largest else "ARG_MIN", inputs, stored(left, order), "int64", outputType=4)
    if not keep:
        return Stored(made, order)
    kept = [1 if position == axis else size for position, size in enumerate(shape)]
    return Stored(low.reshape(made, stored(kept, value.order)), value.order)


def max_with_indices(low: Lowering, node: fx.Node) -> None:
    """Largest elements along an axis and where they are."""
    arguments = bind(node)
    source, keep = arguments["self"], bool(arguments["keepdim"])
    shape = tuple(shape_of(source))
    axis = int(arguments["dim"]) % len(shape)
    value = low.read(node, source, position=0)
    for reader in node.users:
        if reader.args[1] == 1:
            low.define(reader, _index_of_extreme(low, value, shape, axis, True, keep=keep))
            continue
        order = value.order if keep else without(value.order, [axis])
        inputs = (value.tensor, low.array([value.order.index(axis)], "int32"))
        made = low.like("REDUCE_MAX", inputs, value.tensor, stored(shape_of(reader), order), keepDims=keep)
        low.define(reader, Stored(made, order, value.encoding))


def top(low: Lowering, node: fx.Node) -> None:
    """The so many largest along an axis, and where they are: TOPK_V2 works on the last axis; the smallest are the largest of the negated."""
    arguments = bind(node)
    source, count = arguments["self"], int(arguments["k"])
    rank = len(shape_of(source))
    axis = int(arguments["dim"]) % rank
    order = (*(place for place in range(rank) if place != axis), axis)
    value = low.convert(low.read(node, source, order, 0), order, None, tuple(shape_of(source)))
    tensor, shape = value.tensor, (*low.tensors[value.tensor].shape[:-1], count)
    dtype = low.tensors[tensor].dtype
    if not arguments["largest"]:
        tensor = low.emit("NEG", (tensor,), low.tensors[tensor].shape, dtype)
    largest, places = low.several("TOPK_V2", (tensor, low.array(count, "int32")), tensor, [shape, shape])
    low.tensors[places] = replace(low.tensors[places], dtype="int32")
    if not arguments["largest"]:
        largest = low.emit("NEG", (largest,), shape, dtype)
    for reader in node.users:
        found = low.emit("CAST", (places,), shape, "int64") if reader.args[1] == 1 else largest
        low.define(reader, Stored(found, order))


def cumsum(low: Lowering, node: fx.Node) -> None:
    """Running sums along an axis."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    axis = value.order.index(int(arguments["dim"]) % len(shape_of(source)))
    low.result(node, "CUMSUM", (_as_type(low, node, value.tensor), low.array([axis], "int32")), value.order)


class Moments:
    """Means and variances of a stored float tensor over some of its axes."""

    def __init__(self, low: Lowering, tensor: int, axes: Sequence[int]) -> None:
        self.low, self.tensor, self.axes = low, tensor, sorted(axes)
        self.shape = low.tensors[tensor].shape
        self.kept = tuple(1 if axis in self.axes else size for axis, size in enumerate(self.shape))

    def mean(self, tensor: int) -> int:
        return self.low.emit("MEAN", (tensor, self.low.array(self.axes, "int32")), self.kept, "float32", keepDims=True)

    def variance(self, mean: int) -> int:
        return self.mean(self.low.emit("SQUARED_DIFFERENCE", (self.tensor, mean), self.shape, "float32"))

    def do(self, code: str, *inputs: int | float) -> int:
        tensors = [self.low.array([value], "float32") if isinstance(value, float) else value for value in inputs]
        shape = np.broadcast_shapes(*(self.low.tensors[tensor].shape for tensor in tensors))
        return self.low.emit(code, tensors, shape, "float32")

    def normalized(self, epsilon: float) -> int:
        """(x - mean) / sqrt(variance + epsilon)."""
        mean = self.mean(self.tensor)
        inverse = self.do("RSQRT", self.do("ADD", self.variance(mean), epsilon))
        return self.do("MUL", self.do("SUB", self.tensor, mean), inverse)

    def affine(self, tensor: int, weight: np.ndarray | None, bias: np.ndarray | None) -> int:
        """Times a weight, plus a bias, both of a shape that broadcasts."""
        if weight is not None:
            tensor = self.do("MUL", tensor, self.low.array(weight, "float32"))
        return tensor if bias is None else self.do("ADD", tensor, self.low.array(bias, "float32"))


def _floats(low: Lowering, node: fx.Node, source: fx.Node, order: Order | None = None) -> Stored:
    value = low.read(node, source, order, 0)
    return low.convert(value, value.order, None, tuple(shape_of(source)))


def _held(low: Lowering, argument: Any, shape: Sequence[int], order: Order) -> np.ndarray | None:
    """A constant parameter, of a shape that broadcasts against a value in some order."""
    if argument is None:
        return None
    array = constant(low.module, argument).float().reshape(list(shape)).permute(order).contiguous().numpy()
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array


def _over_last_axes(low: Lowering, node: fx.Node) -> tuple[Stored, Moments, list[int]]:
    """The input of a normalization over the last axes, its moments, and the shape that its weights are broadcast from."""
    arguments = bind(node)
    source, normalized = arguments["input"], [int(size) for size in arguments["normalized_shape"]]
    rank, count = len(shape_of(source)), len(normalized)
    value = _floats(low, node, source)
    moments = Moments(low, value.tensor, [value.order.index(axis) for axis in range(rank - count, rank)])
    return value, moments, [1] * (rank - count) + normalized


def layer_norm(low: Lowering, node: fx.Node) -> None:
    """Normalization over the last axes (Ba et al. 2016, equation 4)."""
    arguments = bind(node)
    value, moments, shape = _over_last_axes(low, node)
    weight, bias = (_held(low, arguments[name], shape, value.order) for name in ("weight", "bias"))
    low.define(node, Stored(moments.affine(moments.normalized(float(arguments["eps"])), weight, bias), value.order))


def rms_norm(low: Lowering, node: fx.Node) -> None:
    """x / sqrt(mean(x^2) + epsilon) over the last axes (Zhang and Sennrich 2019, equation 4)."""
    arguments = bind(node)
    value, moments, shape = _over_last_axes(low, node)
    epsilon = arguments["eps"] if arguments["eps"] is not None else torch.finfo(torch.float32).eps
    inverse = moments.do("RSQRT", moments.do("ADD", moments.mean(moments.do("MUL", value.tensor, value.tensor)), float(epsilon)))
    weight = _held(low, arguments["weight"], shape, value.order)
    low.define(node, Stored(moments.affine(moments.do("MUL", value.tensor, inverse), weight, None), value.order))


def group_norm(low: Lowering, node: fx.Node) -> None:
    """Normalization over groups of channels and all positions (Wu and He 2018, equation 1)."""
    arguments = bind(node)
    _normalize_groups(low, node, arguments["input"], int(arguments["num_groups"]), arguments["weight"], arguments["bias"], float(arguments["eps"]))


def instance_norm(low: Lowering, node: fx.Node) -> None:
    """Normalization over the positions of each channel."""
    arguments = bind(node)
    if not arguments["use_input_stats"]:
        raise low.refuse(node, "instance norm with running statistics must be folded first")
    source = arguments["input"]
    _normalize_groups(low, node, source, shape_of(source)[1], arguments["weight"], arguments["bias"], float(arguments["eps"]))


def _normalize_groups(low: Lowering, node: fx.Node, source: fx.Node, groups: int, weight: Any, bias: Any, epsilon: float) -> None:
    shape = shape_of(source)
    order = channels_last(len(shape))
    value = _floats(low, node, source, order)
    channels = shape[1]
    flat = low.reshape(value.tensor, (shape[0], math.prod(shape[2:]), groups, channels // groups))
    normalized = low.reshape(Moments(low, flat, [1, 3]).normalized(epsilon), stored(shape, order))
    parameters = [constant(low.module, argument).float().numpy() if argument is not None else None for argument in (weight, bias)]
    low.define(node, Stored(Moments(low, normalized, []).affine(normalized, *parameters), order))


def variance(low: Lowering, node: fx.Node) -> None:
    """The variance over axes, with a correction of the number of elements."""
    arguments = bind(node)
    source = arguments["self"]
    rank = len(shape_of(source))
    axes, keep = _axes(arguments, rank)
    value = _floats(low, node, source)
    moments = Moments(low, value.tensor, [value.order.index(axis) for axis in axes])
    made = moments.variance(moments.mean(value.tensor))
    count = math.prod(shape_of(source)[axis] for axis in axes)
    correction = arguments.get("correction")
    correction = 1 if correction is None else correction
    if correction:
        made = moments.do("MUL", made, count / (count - correction))
    order = value.order if keep else without(value.order, axes)
    low.define(node, Stored(low.reshape(made, stored(shape_of(node), order)), order))


def norm(low: Lowering, node: fx.Node) -> None:
    """The Euclidean norm over axes, or the sum of magnitudes."""
    arguments = bind(node)
    source = arguments["self"]
    axes, keep = _axes(arguments, len(shape_of(source)))
    value = _floats(low, node, source)
    moments = Moments(low, value.tensor, [value.order.index(axis) for axis in axes])
    if arguments["ord"] not in (1, 2):
        raise low.refuse(node, f"norms of order 1 and 2 are known, got {arguments['ord']}")
    inner = moments.do("MUL", value.tensor, value.tensor) if arguments["ord"] == 2 else moments.do("ABS", value.tensor)
    total = low.emit("SUM", (inner, low.array(moments.axes, "int32")), moments.kept, "float32", keepDims=True)
    made = moments.do("SQRT", total) if arguments["ord"] == 2 else total
    order = value.order if keep else without(value.order, axes)
    low.define(node, Stored(low.reshape(made, stored(shape_of(node), order)), order))
