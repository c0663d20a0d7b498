"""Convolutions, plain and transposed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.windows import Window, numbers, window

CONVOLUTIONS = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def conv(node: Node, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Padding that differs between two sides is a pad in front."""
    held = window(node, data.shape[2:], weight.shape[2:])
    padding = held.before
    if not held.is_even:
        data, padding = F.pad(data, held.sides), (0,) * len(padding)
    return CONVOLUTIONS[data.dim() - 3](data, weight, bias, held.strides, padding, held.dilations, node.get("group", 1))


def conv_transpose(node: Node, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """What is padded is cut from the result; torch cuts the same from both sides, and adds to the far one."""
    rank = data.dim() - 2
    before, after = _cut(node, data.shape[2:], weight.shape[2:])
    strides, dilations = numbers(node, "strides", rank), numbers(node, "dilations", rank)
    spare = [max(0, low - high) for low, high in zip(before, after, strict=True)]
    plain = all(low >= 0 for low in before) and all(extra < max(stride, gap) for extra, stride, gap in zip(spare, strides, dilations, strict=True))
    operator, groups = TRANSPOSED[rank - 1], node.get("group", 1)
    if plain:
        result = operator(data, weight, bias, strides, before, spare, groups, dilations)
        cuts = [max(0, high - low) for low, high in zip(before, after, strict=True)]
        for axis, cut in enumerate(cuts, start=2):
            result = result.narrow(axis, 0, result.shape[axis] - cut) if cut else result
        return result
    result = operator(data, weight, None, strides, 0, 0, groups, dilations)
    result = F.pad(result, [-side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair])
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def _cut(node: Node, sizes: Sequence[int], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """What is cut from both sides of each axis of the full result; less than nothing is zeros added."""
    rank = len(sizes)
    strides, extra = numbers(node, "strides", rank), list(node.get("output_padding") or [0] * rank)
    asked, mode = node.get("output_shape"), node.get("auto_pad", "NOTSET")
    if asked is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        asked = [size * stride for size, stride in zip(sizes, strides, strict=True)]
    if asked is None:
        held = window(Node("", attributes={**node.attributes, "auto_pad": "NOTSET" if mode == "VALID" else mode}), sizes, kernel)
        pads = held if mode != "VALID" else Window(held.kernel, held.strides, held.dilations, (0,) * rank, (0,) * rank)
        return list(pads.before), [high - more for high, more in zip(pads.after, extra, strict=True)]
    asked = list(asked)[-rank:]
    before, after = [], []
    for size, stride, width, gap, more, wanted in zip(sizes, strides, kernel, numbers(node, "dilations", rank), extra, asked, strict=True):
        if not isinstance(size, int):
            raise ModelError("output_shape needs a size of the image that is known; leave open the batch alone.")
        total = stride * (size - 1) + more + (width - 1) * gap + 1 - wanted
        near = max(total, 0) // 2 if mode == "SAME_UPPER" else max(total, 0) - max(total, 0) // 2
        before.append(near)
        after.append(total - near - more)
    return before, after


def columns_to_image(node: Node, data: torch.Tensor, image: Sequence[int], block: Sequence[int]) -> torch.Tensor:
    """Col2Im: blocks laid over one another, their numbers added up."""
    held = window(node, image, block)
    padded = [size + low + high for size, low, high in zip(image, held.before, held.after, strict=True)]
    if len(image) == 2:
        whole = F.fold(data, tuple(padded), tuple(block), held.dilations, 0, held.strides)
    else:  # a transposed convolution puts each number of a block at its place
        count = math.prod(block)
        places = torch.eye(count).reshape(count, 1, *block).repeat(data.shape[1] // count, *[1] * (len(block) + 1))
        blocks = [(size - span) // stride + 1 for size, span, stride in zip(padded, held.spans, held.strides, strict=True)]
        columns = data.reshape(data.shape[0], data.shape[1], *blocks)
        whole = TRANSPOSED[len(block) - 1](columns, places, None, held.strides, 0, 0, data.shape[1] // count, held.dilations)
    for axis, (low, high) in enumerate(zip(held.before, held.after, strict=True), start=2):
        whole = whole.narrow(axis, low, padded[axis - 2] - low - high)
    return whole
