"""Activations and normalizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.walk import bind, dtype_of, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, unsupported
from tersenet.targets.onnxruntime.operators import quantization


def clipped(build: Lowering, node: fx.Node) -> str:
    """relu, relu6 and clamp: nothing where the grid of the result cuts values off by itself, else Relu or Clip.

    Rounding to a grid never changes the order of numbers, so ``quantize(clip(r))`` is ``quantize(r)`` cut off at the two limits'
    own integers: exactly the same, and nothing at all where those are the ends of the grid.
    """
    low, high = _limits(node)
    found = quantization.conversion(node)
    if found is not None and dtype_of(node) is torch.float32:
        return _on_the_grid(build, node, low, high, found)
    source = build.cast(node.args[0], dtype_of(node) or torch.float32)
    if low == 0 and high is None:
        return build.add("Relu", source)
    return build.add("Clip", source, *("" if limit is None else build.value(limit, node) for limit in (low, high)))


def _limits(node: fx.Node) -> tuple[Any, Any]:
    name = str(node.target)
    if "relu6" in name:
        return 0.0, 6.0
    if "relu" in name:
        return 0, None
    given = bind(node)
    return given["min"], given["max"]


def _on_the_grid(build: Lowering, node: fx.Node, low: Any, high: Any, found: tuple[Any, ...]) -> str:
    _, _, lowest, highest, dtype = found
    bottom = lowest if low is None else quantization.as_integer(low, found)
    top = highest if high is None else quantization.as_integer(high, found)
    source = node.args[0]
    integers = quantization.same_integers(build, node, [source])
    if integers is None and quantization.is_dequantized(source) and (low, high) == (0, None):
        # from one grid to another: a leaky relu of slope 0 has an integer kernel, two conversions run in float
        return build.add("LeakyRelu", build.value(source), alpha=0.0)
    if (bottom, top) != (lowest, highest):
        kind = str(dtype).removeprefix("torch.")
        held = integers[0] if integers is not None else build.add("QuantizeLinear", build.value(source), *quantization.constants(build, found))
        build.integers[node] = build.add("Clip", held, build.constant(np.array(bottom, kind)), build.constant(np.array(top, kind)))
    return build.value(source)


def leaky_relu(build: Lowering, node: fx.Node) -> str:
    return build.add("LeakyRelu", build.value(node.args[0]), alpha=float(bind(node)["negative_slope"]))


def prelu(build: Lowering, node: fx.Node) -> str:
    """One slope a channel, along axis 1."""
    source, slope = node.args[:2]
    rank, count = len(shape_of(source)), shape_of(slope)[0]  # type: ignore[arg-type]
    tensor = build.value(slope)
    if rank > 2 and count > 1:
        tensor = build.add("Reshape", tensor, build.constant(np.array([count, *[1] * (rank - 2)], np.int64)))
    return build.add("PRelu", build.value(source), tensor)


def elu(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    if given["scale"] != 1 or given["input_scale"] != 1:
        raise unsupported(node, "it has scales of its own")
    return build.add("Elu", build.value(node.args[0]), alpha=float(given["alpha"]))


def selu(build: Lowering, node: fx.Node) -> str:
    return build.add("Selu", build.value(node.args[0]))


def celu(build: Lowering, node: fx.Node) -> str:
    return build.add("Celu", build.value(node.args[0]), alpha=float(bind(node)["alpha"]))


def hard_sigmoid(build: Lowering, node: fx.Node) -> str:
    """``clip(x / 6 + 1 / 2, 0, 1)``; ONNX's own default slope is another."""
    return build.add("HardSigmoid", build.value(node.args[0]), alpha=1 / 6, beta=0.5)


def silu(build: Lowering, node: fx.Node) -> str:
    source = build.value(node.args[0])
    return build.add("Mul", source, build.add("Sigmoid", source))


def gelu(build: Lowering, node: fx.Node) -> str:
    kind = bind(node)["approximate"]
    return build.add("Gelu", build.value(node.args[0]), approximate=kind if kind != "none" else None)


def softplus(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    if given["beta"] != 1:
        raise unsupported(node, f"its beta is {given['beta']}, and ONNX has 1 alone")
    return build.add("Softplus", build.value(node.args[0]))


def along_axis(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """Softmax and LogSoftmax."""

    def build_along(build: Lowering, node: fx.Node) -> str:
        axis = int(bind(node)["dim"]) if len(shape_of(node)) else 0
        last = axis in (-1, len(shape_of(node)) - 1)
        return build.add(kind, build.cast(node.args[0], dtype_of(node) or torch.float32), axis=None if last else axis)

    return build_along


def layer_norm(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    sizes = list(given["normalized_shape"])
    weight = build.value(given["weight"]) if given["weight"] is not None else build.constant(np.ones(sizes, np.float32))
    bias = build.value(given["bias"]) if given["bias"] is not None else ""
    axis = -len(sizes)
    return build.add("LayerNormalization", build.value(given["input"]), weight, bias, axis=None if axis == -1 else axis, epsilon=given["eps"])


def rms_norm(build: Lowering, node: fx.Node) -> str:
    """``x / sqrt(mean(x ** 2) + epsilon) * weight`` (Zhang and Sennrich 2019, equation 4)."""
    given = bind(node)
    source = build.value(given["input"])
    axes = build.constant(np.arange(-len(given["normalized_shape"]), 0, dtype=np.int64))
    epsilon = given["eps"] if given["eps"] is not None else torch.finfo(torch.float32).eps
    mean = build.add("ReduceMean", build.add("Mul", source, source), axes)
    root = build.add("Sqrt", build.add("Add", mean, build.constant(np.array(epsilon, np.float32))))
    normal = build.add("Div", source, root)
    return normal if given["weight"] is None else build.add("Mul", normal, build.value(given["weight"]))


def group_norm(build: Lowering, node: fx.Node) -> str:
    """Groups as the channels of an instance normalization, then the weights (Wu and He 2018)."""
    given = bind(node)
    source, groups = given["input"], given["num_groups"]
    tensor, channels = build.value(source), int(shape_of(source)[1])
    folded = build.add("Reshape", tensor, build.constant(np.array([0, groups, -1], np.int64)))
    ones, zeros = build.constant(np.ones(groups, np.float32)), build.constant(np.zeros(groups, np.float32))
    normal = build.add("InstanceNormalization", folded, ones, zeros, epsilon=given["eps"])
    result = build.add("Reshape", normal, build.shape(source))
    per_channel = build.constant(np.array([channels, *[1] * (len(shape_of(source)) - 2)], np.int64))
    if given["weight"] is not None:
        result = build.add("Mul", result, build.add("Reshape", build.value(given["weight"]), per_channel))
    return result if given["bias"] is None else build.add("Add", result, build.add("Reshape", build.value(given["bias"]), per_channel))


def instance_norm(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    if not given["use_input_stats"]:
        raise unsupported(node, "it uses running statistics")
    channels = int(shape_of(given["input"])[1])
    weight = build.value(given["weight"]) if given["weight"] is not None else build.constant(np.ones(channels, np.float32))
    bias = build.value(given["bias"]) if given["bias"] is not None else build.constant(np.zeros(channels, np.float32))
    return build.add("InstanceNormalization", build.value(given["input"]), weight, bias, epsilon=given["eps"])
