"""Convolutions, transposed convolutions, linear layers and products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, is_constant, shape_of
from tersenet.targets.litert.layout import axis_last, channels_last, identity
from tersenet.targets.litert.lowering import Lowering, Stored, same_grid

SAME, VALID = 0, 1
Sides = tuple[int, int]  # before and behind


def convolution(low: Lowering, node: fx.Node) -> None:
    """conv2d and conv1d, plain, grouped, depthwise, dilated. A sequence is an image of height 1."""
    arguments = bind(node)
    shape = shape_of(arguments["input"])
    source, pads = without_pad(low, node, arguments["input"], [(int(side), int(side)) for side in pair(arguments["padding"], len(shape) - 2, 0)])
    image = as_image(low, low.read(node, source, channels_last(len(shape)), 0).tensor)
    stride, dilation = (pair(arguments[name], len(shape) - 2, 1) for name in ("stride", "dilation"))
    weight = arguments["weight"]
    kernel = pair(shape_of(weight)[2:], len(shape) - 2, 1)
    extent = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    image, padding = padded(low, image, extent, stride, pads)
    depthwise = kind_of(node).startswith("depthwise")
    rows = [2, 3] if len(shape) == 4 else [2]
    held = low.weight(node, weight, "weight", [1, *rows, 0] if depthwise else [0, *rows, 1])
    held = _with_height(low, held) if len(shape) == 3 else held
    channels = shape_of(weight)[0]
    bias = low.bias(node, arguments["bias"], channels, low.tensors[image].dtype)
    options = {
        "padding": padding,
        "strideH": stride[0],
        "strideW": stride[1],
        "dilationHFactor": dilation[0],
        "dilationWFactor": dilation[1],
        "fusedActivationFunction": low.activation(node),
    }
    if depthwise:
        options["depthMultiplier"] = channels // shape[1]
    sizes = pair(shape_of(node)[2:], len(shape) - 2, 1)
    finish_image(low, node, "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", (image, held, bias), sizes, **options)


def pair(values: Sequence[int], rank: int, fill: int) -> list[int]:
    """Height and width; a sequence has height `fill`, a single number stands for both."""
    numbers = [int(value) for value in values]
    if len(numbers) < rank:
        numbers = numbers * rank
    return numbers if rank == 2 else [fill, *numbers]


def _with_height(low: Lowering, weight: int) -> int:
    """A kernel of a sequence (O, W, I) as one of an image (O, 1, W, I)."""
    held = low.tensors[weight]
    assert held.data is not None
    numbers = held.numbers
    if numbers is not None and numbers.axis > 0:
        numbers = type(numbers)(numbers.scale, numbers.zero_point, numbers.axis + 1)
    return low.array(held.data[:, None], held.dtype, numbers)


def convolution_of_volumes(low: Lowering, node: fx.Node) -> None:
    """conv3d, in floats."""
    arguments = bind(node)
    if arguments["groups"] != 1:
        raise low.refuse(node, "convolutions of volumes have one group there; write it as one convolution for each group")
    value = low.read(node, arguments["input"], channels_last(5), 0)
    value = low.convert(value, value.order, None, tuple(shape_of(arguments["input"])))
    tensor, shape = value.tensor, low.tensors[value.tensor].shape
    pads = [int(size) for size in arguments["padding"]]
    if any(pads):
        table = [(0, 0), *((size, size) for size in pads), (0, 0)]
        tensor = low.like("PAD", (tensor, low.array(table, "int32")), tensor, [size + sum(sides) for size, sides in zip(shape, table, strict=True)])
    weight = low.weight(node, arguments["weight"], "weight", [2, 3, 4, 1, 0])
    inputs = (tensor, weight, low.bias(node, arguments["bias"], shape_of(node)[1], "float32"))
    depth, rows, columns = arguments["stride"]
    options = {"padding": VALID, "strideD": depth, "strideH": rows, "strideW": columns, "fusedActivationFunction": low.activation(node)}
    dilations = dict(zip(("dilationDFactor", "dilationHFactor", "dilationWFactor"), arguments["dilation"], strict=True))
    low.result(node, "CONV_3D", inputs, channels_last(5), **options, **dilations)


def as_image(low: Lowering, tensor: int) -> int:
    """A stored sequence (N, W, C) as an image (N, 1, W, C); an image is one."""
    shape = low.tensors[tensor].shape
    return tensor if len(shape) == 4 else low.reshape(tensor, (shape[0], 1, *shape[1:]))


def finish_image(low: Lowering, node: fx.Node, code: str, inputs: Sequence[int], sizes: Sequence[int], **options: Any) -> None:
    """Add an operator on images that makes a node's value, which may be a sequence."""
    last = low.result_of(node)
    shape = shape_of(last)
    order = channels_last(len(shape))
    if len(shape) == 4:
        low.result(node, code, inputs, order, **options)
        return
    encoding = low.plan.values.get(last.name) if low.unit(node) is not None else None
    dtype = encoding.scheme.dtype if encoding is not None else "float32"
    image = low.emit(code, inputs, (shape[0], *sizes, shape[1]), dtype, encoding, **options)
    low.define(node, Stored(low.reshape(image, (shape[0], shape[2], shape[1])), order, encoding))


def without_pad(low: Lowering, node: fx.Node, source: fx.Node, pads: list[Sides]) -> tuple[fx.Node, list[Sides]]:
    """The value in front of a pad with zeros that only this convolution reads, and the sides that both pad together."""
    if source.op != "call_function" or kind_of(source) != "pad" or len(source.users) != 1 or f"{node.name}:0" in low.plan.uses:
        return source, pads
    arguments = bind(source)
    amounts = [int(amount) for amount in arguments["pad"]]
    rank = len(shape_of(source))
    spatial = 2 * (rank - 2)
    if arguments.get("mode", "constant") != "constant" or arguments["value"] not in (None, 0) or any(amounts[spatial:]) or min(amounts) < 0:
        return source, pads
    sides = [(amounts[index], amounts[index + 1]) for index in range(0, min(len(amounts), spatial), 2)]
    sides = [(0, 0)] * (2 - len(sides)) + sides[::-1] if rank == 4 else [(0, 0), *sides]
    inner = arguments["self"]
    if not same_grid(low.plan.values.get(inner.name), low.plan.values.get(source.name)):
        return source, pads
    return inner, [(first[0] + second[0], first[1] + second[1]) for first, second in zip(pads, sides, strict=True)]


def padded(low: Lowering, image: int, extent: Sequence[int], stride: Sequence[int], pads: Sequence[Sides]) -> tuple[int, int]:
    """The image to read and the padding to name: SAME where it pads as the network does, else VALID behind a PAD."""
    if not any(side for sides in pads for side in sides):
        return image, VALID
    sizes = low.tensors[image].shape[1:3]
    if all(map(is_same, sizes, extent, stride, pads)):
        return image, SAME
    shape = low.tensors[image].shape
    table = [(0, 0), *pads, (0, 0)]
    grown = [size + before + behind for size, (before, behind) in zip(shape, table, strict=True)]
    return low.like("PAD", (image, low.array(table, "int32")), image, grown), VALID


def is_same(size: int, extent: int, stride: int, pads: Sides) -> bool:
    """Whether SAME puts as much before and makes as many results; what lies behind the last window does not matter."""
    count = (size + sum(pads) - extent) // stride + 1
    total = max((count - 1) * stride + extent - size, 0)
    return count == -(-size // stride) and total // 2 == pads[0]


def transposed_convolution(low: Lowering, node: fx.Node) -> None:
    """conv_transpose2d and conv_transpose1d: TRANSPOSE_CONV without padding, and a slice that takes the padding off."""
    arguments = bind(node)
    rank = len(shape_of(arguments["input"])) - 2
    stride, pads, dilation = pair(arguments["stride"], rank, 1), pair(arguments["padding"], rank, 0), pair(arguments["dilation"], rank, 1)
    if arguments["groups"] != 1:
        raise low.refuse(node, "transposed convolutions have one group there; write it as one convolution for each group")
    if dilation != [1, 1]:
        raise low.refuse(node, "transposed convolutions have no dilation there")
    image = as_image(low, low.read(node, arguments["input"], channels_last(rank + 2), 0).tensor)
    weight = arguments["weight"]
    kernel = pair(shape_of(weight)[2:], rank, 1)
    held = low.weight(node, weight, "weight", [1, *range(2, rank + 2), 0])
    held = _with_height(low, held) if rank == 1 else held
    channels = shape_of(weight)[1]
    bias = low.bias(node, arguments["bias"], channels, low.tensors[image].dtype)
    batch, *sizes, _ = low.tensors[image].shape
    wanted = pair(shape_of(node)[2:], rank, 1)
    full = [(size - 1) * step + extent for size, step, extent in zip(sizes, stride, kernel, strict=True)]
    options = {"padding": VALID, "strideH": stride[0], "strideW": stride[1], "fusedActivationFunction": low.activation(node)}
    if not any(pads) and full == wanted:
        inputs = (low.array([batch, *full, channels], "int32"), held, image, bias)
        finish_image(low, node, "TRANSPOSE_CONV", inputs, full, **options)
        return
    if all(map(_same_crop, sizes, stride, kernel, pads, wanted)):
        inputs = (low.array([batch, *wanted, channels], "int32"), held, image, bias)
        finish_image(low, node, "TRANSPOSE_CONV", inputs, wanted, **{**options, "padding": SAME})
        return
    encoding = low.plan.values.get(low.result_of(node).name) if low.unit(node) is not None else None
    dtype = encoding.scheme.dtype if encoding is not None else "float32"
    grown = [max(size, pad + want) for size, pad, want in zip(full, pads, wanted, strict=True)]
    inputs = (low.array([batch, *grown, channels], "int32"), held, image, bias)
    whole = low.emit("TRANSPOSE_CONV", inputs, (batch, *grown, channels), dtype, encoding, **options)
    start, size = low.array([0, *pads, 0], "int32"), low.array([batch, *wanted, channels], "int32")
    finish_image(low, node, "SLICE", (whole, start, size), wanted)


def _same_crop(size: int, stride: int, extent: int, pad: int, wanted: int) -> bool:
    """Whether SAME makes as many results, and takes as much off the front of the full one."""
    total = max((size - 1) * stride + extent - size * stride, 0)
    return size * stride == wanted and total // 2 == pad


def linear(low: Lowering, node: fx.Node) -> None:
    """A linear layer on the last axis, whatever lies before it."""
    arguments = bind(node)
    source, weight = arguments["input"], arguments["weight"]
    if not is_constant(weight):
        raise low.refuse(node, "the weight of a linear layer must be a constant; write the product of two activations as matmul")
    value = low.read(node, source, position=0)
    rank = len(shape_of(source))
    if value.columns is None and value.order[-1] != rank - 1:
        value = low.read(node, source, axis_last(value.order, rank - 1), 0)
    held = low.weight(node, weight, "weight", [0, 1], value.columns)
    inputs = (value.tensor, held, low.bias(node, arguments["bias"], shape_of(weight)[0], low.tensors[value.tensor].dtype))
    options: dict[str, Any] = {"fusedActivationFunction": low.activation(node)}
    if rank != 2:
        options["keepNumDims"] = True
    low.result(node, "FULLY_CONNECTED", inputs, value.order, **options)


def matmul(low: Lowering, node: fx.Node) -> None:
    """The product of two values; a transposed one is read as it lies."""
    left, right = node.args[0], node.args[1]
    assert isinstance(left, fx.Node) and isinstance(right, fx.Node)
    if len(shape_of(left)) < 2 or len(shape_of(right)) < 2:
        raise low.refuse(node, "a product with a vector must be written with a matrix of one row or column")
    (first, turned_first), (second, turned_second) = _matrix(low, node, left, 0), _matrix(low, node, right, 1)
    low.result(node, "BATCH_MATMUL", (first, second), identity(len(shape_of(node))), adjX=turned_first, adjY=turned_second)


def _matrix(low: Lowering, node: fx.Node, child: fx.Node, position: int) -> tuple[int, bool]:
    """A stack of matrices in source order, or with rows and columns exchanged where it lies so, and whether it does."""
    rank = len(shape_of(child))
    turned = (*range(rank - 2), rank - 1, rank - 2)
    if not is_constant(child) and low.values[child].order == turned:
        return low.read(node, child, turned, position).tensor, True
    return low.read(node, child, identity(rank), position).tensor, False


def flattened_columns(shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """The source's column behind each stored one, of (N, ...) flattened to (N, columns) as it lies."""
    inner = [axis - 1 for axis in order if axis != 0]
    return np.arange(int(np.prod(shape[1:]))).reshape(*shape[1:]).transpose(inner).reshape(-1)
