"""Operators in the spelling that XNNPACK's partitioner takes: exact rewrites, each of which keeps one more of them in the delegate.

An operator that stays out splits the network in two delegates and runs on a portable kernel, written for size and not for speed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from tersenet.graph.build import call
from tersenet.graph.operators import aten_name, kind_of
from tersenet.graph.walk import add_constant, bind, calls, rebind, shape_of

aten = torch.ops.aten


def is_quantize(node: object) -> bool:
    """Whether a node makes integers of floats."""
    return isinstance(node, fx.Node) and aten_name(node) == "quantize_per_tensor.default"


def is_dequantize(node: object) -> bool:
    """Whether a node makes floats of integers."""
    return isinstance(node, fx.Node) and aten_name(node) == "dequantize_per_tensor.default"


def _replace(module: fx.GraphModule, node: fx.Node, made: fx.Node) -> None:
    node.replace_all_uses_with(made)
    module.graph.erase_node(node)


def clamps_to_hardtanh(module: fx.GraphModule) -> None:
    """The spelling of a clamp that the delegate fuses into the operator before it; an open end becomes float32's own."""
    largest = torch.finfo(torch.float32).max
    for node in calls(module):
        if kind_of(node) == "clamp" and node.target is aten.clamp.default:
            limits = bind(node)
            low, high = (limits[name] if limits[name] is not None else end for name, end in (("min", -largest), ("max", largest)))
            node.target, node.args, node.kwargs = aten.hardtanh.default, (node.args[0], low, high), {}


def strided_slices_to_convolutions(module: fx.GraphModule) -> None:
    """Every n-th row and column of an image is a depthwise 1x1 convolution with stride n and weight 1, exact in integers too.

    The delegate has no strided slice: each would split the network in two and run on a portable kernel.
    """
    made: dict[fx.Node, tuple[fx.Node, tuple[int, int]]] = {}
    for node in list(calls(module)):
        strides = _strides(node)
        if strides is None:
            continue
        source = node.args[0]
        assert isinstance(source, fx.Node)
        chain = _unquantized(source)
        if chain[-1] in made and all(len(link.users) == 1 for link in chain):  # rows and columns in one
            source, earlier = made[chain[-1]]
            strides = (strides[0] * earlier[0], strides[1] * earlier[1])
        made[_convolve(module, node, source, strides)] = (source, strides)


def _unquantized(node: fx.Node) -> list[fx.Node]:
    """The node, and what it is the quantized and dequantized value of, where it is."""
    if is_dequantize(node) and is_quantize(node.args[0]):
        quantize = node.args[0]
        return [node, quantize, quantize.args[0]]  # type: ignore[list-item, union-attr]
    return [node]


def _strides(node: object) -> tuple[int, int] | None:
    """Strides along rows and columns of a slice that keeps every n-th of all; None for any other operator."""
    if not isinstance(node, fx.Node) or kind_of(node) != "slice" or "step" not in bind(node):
        return None
    taken = bind(node)
    source = taken["self"]
    shape = shape_of(source)
    axis = taken["dim"] % len(shape)
    whole = (taken["start"] or 0) == 0 and (taken["end"] is None or taken["end"] >= shape[axis])
    if len(shape) != 4 or axis < 2 or taken["step"] == 1 or not whole or not source.meta["val"].is_floating_point():
        return None
    return (taken["step"], 1) if axis == 2 else (1, taken["step"])


def _convolve(module: fx.GraphModule, node: fx.Node, source: fx.Node, strides: tuple[int, int]) -> fx.Node:
    channels = shape_of(node)[1]
    if is_dequantize(source):
        ones = add_constant(module, f"{node.name}.ones", torch.ones(channels, 1, 1, 1, dtype=torch.int8), node, node)
        scales = add_constant(module, f"{node.name}.scales", torch.ones(channels), node, node)
        zeros = add_constant(module, f"{node.name}.zeros", torch.zeros(channels, dtype=torch.int64), node, node)
        operator = torch.ops.quantized_decomposed.dequantize_per_channel.default
        weight = call(module, operator, (ones, scales, zeros, 0, -127, 127, torch.int8), before=node)
    else:
        weight = add_constant(module, f"{node.name}.ones", torch.ones(channels, 1, 1, 1), node, node)
    arguments = (source, weight, None, list(strides), [0, 0], [1, 1], channels)
    made = call(module, aten.conv2d.default, arguments, before=node, like=node)
    node.replace_all_uses_with(made)
    module.graph.erase_node(node)
    return made


def hardsigmoids_to_clamps(module: fx.GraphModule) -> None:
    """clamp(x + 3, 0, 6) / 6; executorch's own decomposition also casts, which XNNPACK does not."""
    for node in list(calls(module)):
        if kind_of(node) != "hardsigmoid":
            continue
        three, sixth = (
            add_constant(module, f"{node.name}.{name}", torch.tensor(value), node, node) for name, value in (("three", 3.0), ("sixth", 1 / 6))
        )
        shifted = call(module, aten.add.Tensor, (node.args[0], three), before=node, like=node)
        clamped = call(module, aten.hardtanh.default, (shifted, 0.0, 6.0), before=node, like=node)
        _replace(module, node, call(module, aten.mul.Tensor, (clamped, sixth), before=node, like=node))


def tanh_gelus_to_products(module: fx.GraphModule) -> None:
    """``x * sigmoid(x * (a + a * 0.044715 * x^2))``, a = 2 sqrt(2 / pi): XNNPACK computes the exact GELU whichever was asked for.

    The same as 0.5 x (1 + tanh(...)) of Hendrycks and Gimpel 2016, section 2.
    """
    slope = 2 * math.sqrt(2 / math.pi)
    for node in list(calls(module)):
        if kind_of(node) != "gelu" or bind(node)["approximate"] != "tanh":
            continue
        source = node.args[0]
        linear, cubic = (
            add_constant(module, f"{node.name}.{name}", torch.tensor(value), node, node)
            for name, value in (("linear", slope), ("cubic", slope * 0.044715))
        )
        square = call(module, aten.mul.Tensor, (source, source), before=node, like=node)
        scaled = call(module, aten.mul.Tensor, (square, cubic), before=node, like=node)
        factor = call(module, aten.add.Tensor, (scaled, linear), before=node, like=node)
        inner = call(module, aten.mul.Tensor, (source, factor), before=node, like=node)
        gate = call(module, aten.sigmoid.default, (inner,), before=node, like=node)
        _replace(module, node, call(module, aten.mul.Tensor, (source, gate), before=node, like=node))


def matmuls_to_batches(module: fx.GraphModule) -> None:
    """Products of equally many matrices as one batch of them; executorch's own decomposition expands both sides first."""
    for node in list(calls(module)):
        if aten_name(node) != "matmul.default":
            continue
        left, right = node.args[:2]
        shapes = shape_of(left), shape_of(right)  # type: ignore[arg-type]
        if len(shapes[0]) < 3 or shapes[0][:-2] != shapes[1][:-2]:
            continue
        flat = [_reshaped(module, side, (-1, *shape[-2:]), node) for side, shape in zip((left, right), shapes, strict=True)]
        product = call(module, aten.bmm.default, tuple(flat), before=node, like=node)
        _replace(module, node, _reshaped(module, product, shape_of(node), node))


def _reshaped(module: fx.GraphModule, value: Any, shape: tuple[int, ...], before: fx.Node) -> fx.Node:
    if len(shape_of(value)) == len(shape):
        return value
    return call(module, aten.reshape.default, (value, list(shape)), before=before, like=before)


def splits_to_slices(module: fx.GraphModule) -> None:
    """Each part of a split is a slice, which runs in integers too."""
    for node in list(calls(module)):
        if kind_of(node) != "split" or not all(kind_of(part) == "getitem" for part in node.users):
            continue
        arguments = bind(node)
        source = arguments["self"]
        axis = arguments["dim"] % len(shape_of(source))
        sizes = [part.shape[axis] for part in node.meta["val"]]
        for part in list(node.users):
            index = int(part.args[1])  # type: ignore[arg-type]
            start = sum(sizes[:index])
            _replace(module, part, call(module, aten.slice.Tensor, (source, axis, start, start + sizes[index]), before=part, like=part))


def selects_to_slices(module: fx.GraphModule) -> None:
    """One index of an axis is a slice of length one, and a reshape."""
    for node in list(calls(module)):
        if kind_of(node) != "select":
            continue
        arguments = bind(node)
        source = arguments["self"]
        shape = shape_of(source)
        axis = arguments["dim"] % len(shape)
        start = arguments["index"] % shape[axis]
        cut = call(module, aten.slice.Tensor, (source, axis, start, start + 1), before=node, like=node)
        _replace(module, node, call(module, aten.reshape.default, (cut, list(shape_of(node))), before=node, like=node))


def padded_averages(module: fx.GraphModule) -> None:
    """An average that counts the zeros around an image is a pad and an average."""
    for node in list(calls(module)):
        if aten_name(node) != "avg_pool2d.default":
            continue
        arguments = bind(node)
        rows, columns = (*arguments["padding"], arguments["padding"][-1])[:2]
        if (rows or columns) and arguments["count_include_pad"] and not arguments["ceil_mode"]:
            padded = call(module, aten.constant_pad_nd.default, (arguments["self"], [columns, columns, rows, rows]), before=node, like=node)
            rebind(node, self=padded, padding=[0, 0])


def pads_of_integers(module: fx.GraphModule) -> None:
    """A pad with zeros keeps to the grid that it reads: its result is quantized with the same numbers, so that integers are padded."""
    for node in list(calls(module)):
        if kind_of(node) != "pad" or not is_dequantize(node.args[0]) or all(is_quantize(reader) for reader in node.users) or bind(node).get("value"):
            continue
        readers, numbers = list(node.users), node.args[0].args[1:]  # type: ignore[union-attr]
        operators = torch.ops.quantized_decomposed
        integers = call(module, operators.quantize_per_tensor.default, (node, *numbers), before=node.next)
        floats = call(module, operators.dequantize_per_tensor.default, (integers, *numbers), before=integers.next)
        for reader in readers:
            reader.replace_input_with(node, floats)


def maxima(module: fx.GraphModule) -> None:
    """Where nobody reads the indices, the maximum over a whole image is a pool of its size, and one along an axis is ``amax``."""
    for node in list(calls(module)):
        kind = kind_of(node)
        if kind not in ("adaptive_max_pool2d", "max_with_indices") or any(part.args[1] != 0 for part in node.users):
            continue
        held, source = bind(node), node.args[0]
        if kind == "max_with_indices":
            made = call(module, aten.amax.default, (source, [held["dim"]], held["keepdim"]), before=node, like=node)
        elif list(held["output_size"]) == [1, 1]:
            made = call(module, aten.max_pool2d.default, (source, list(shape_of(source)[-2:])), before=node, like=node)  # type: ignore[arg-type]
        else:
            continue
        for part in list(node.users):
            _replace(module, part, made)


def sequence_pools_to_images(module: fx.GraphModule) -> None:
    """A maximum along a sequence is one over an image of one row."""
    for node in list(calls(module)):
        if aten_name(node) != "max_pool1d.default" or len(shape_of(node)) != 3:
            continue
        held = bind(node)
        shape = shape_of(held["self"])
        stride = held["stride"] or held["kernel_size"]
        image = call(module, aten.reshape.default, (held["self"], [*shape[:2], 1, shape[2]]), before=node, like=node)
        window = ([1, *held["kernel_size"]], [1, *stride], [0, *held["padding"]], [1, *held["dilation"]], held["ceil_mode"])
        pooled = call(module, aten.max_pool2d.default, (image, *window), before=node, like=node)
        _replace(module, node, call(module, aten.reshape.default, (pooled, list(shape_of(node))), before=node, like=node))


def core_names(module: fx.GraphModule) -> None:
    """The names of ATen's core set: where nothing else is left, executorch need not decompose the graph a second time."""
    for node in list(calls(module)):
        kind, value = kind_of(node), node.meta["val"]
        if kind in ("conv1d", "conv2d", "depthwise_conv1d", "depthwise_conv2d", "conv_transpose1d", "conv_transpose2d"):
            _as_convolution(node)
        elif kind == "adaptive_avg_pool2d" and list(node.args[1]) == [1, 1]:  # type: ignore[arg-type]
            node.target, node.args = aten.mean.dim, (node.args[0], [-1, -2], True)
        elif aten_name(node) == "pad.default" and bind(node)["mode"] == "constant":
            node.target, node.args, node.kwargs = aten.constant_pad_nd.default, (node.args[0], node.args[1], bind(node)["value"] or 0.0), {}
        elif kind == "relu6":
            node.target, node.args = aten.hardtanh.default, (node.args[0], 0.0, 6.0)
        elif kind == "reshape" and node.args[0].meta["val"].is_contiguous():  # type: ignore[union-attr]
            node.target, node.args, node.kwargs = aten.view.default, (node.args[0], [int(size) for size in value.shape]), {}
        elif aten_name(node) == "transpose.int":
            order = list(range(value.dim()))
            first, second = (axis % value.dim() for axis in node.args[1:3])
            order[first], order[second] = order[second], order[first]
            node.target, node.args = aten.permute.default, (node.args[0], order)


def _as_convolution(node: fx.Node) -> None:
    held = bind(node)
    transposed = "output_padding" in held
    axes = len(held["stride"])
    node.args = (held["input"], held["weight"], held["bias"], held["stride"], held["padding"], held["dilation"], transposed)
    node.args += (held["output_padding"] if transposed else [0] * axes, held["groups"])
    node.target, node.kwargs = aten.convolution.default, {}


# In order: names last.
SPELLINGS: tuple[Callable[[fx.GraphModule], None], ...] = (
    clamps_to_hardtanh,
    hardsigmoids_to_clamps,
    tanh_gelus_to_products,
    strided_slices_to_convolutions,
    matmuls_to_batches,
    splits_to_slices,
    selects_to_slices,
    padded_averages,
    pads_of_integers,
    maxima,
    sequence_pools_to_images,
    core_names,
)
