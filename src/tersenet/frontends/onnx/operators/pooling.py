"""Pooling over windows, and over whole images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.convolution import CONVOLUTIONS
from tersenet.frontends.onnx.operators.windows import Window, window

LARGEST = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
MEANS = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


def max_pool(node: Node, data: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    held, rounded_up = window(node, data.shape[2:], node.get("kernel_shape", ())), bool(node.get("ceil_mode", 0))
    if not data.is_floating_point():
        return max_pool_integers(node, data)
    padding = held.before
    if any(2 * side > size for side, size in zip(padding, held.kernel, strict=True)) or not held.is_even:
        if held.is_even or not (rounded := _rounds_up(held, data.shape[2:])):
            data, padding = F.pad(data, held.sides, value=-math.inf), (0,) * len(padding)
        else:
            rounded_up = rounded
    operator = LARGEST[data.dim() - 3]
    if node.outputs < 2:
        return operator(data, held.kernel, held.strides, padding, held.dilations, rounded_up)
    if padding != held.before:
        raise ModelError("places of the largest numbers are read for windows that are padded alike on both sides.")
    values, places = operator(data, held.kernel, held.strides, padding, held.dilations, rounded_up, return_indices=True)
    return values, _global(node, places, data)


def max_pool_integers(node: Node, data: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """8-bit integers are floats without loss."""
    result = max_pool(node, data.float())
    return (result[0].to(data.dtype), result[1]) if isinstance(result, tuple) else result.to(data.dtype)


def _rounds_up(held: Window, sizes: Sequence[int]) -> bool:
    """Whether more padding at the end is what rounding the number of windows up gives: nothing is padded, and runtimes have it."""
    for size, span, stride, low, high in zip(sizes, held.spans, held.strides, held.before, held.after, strict=True):
        if not isinstance(size, int) or 2 * low > span or high < low:
            return False
        wanted = (size + low + high - span) // stride
        windows = -(-(size + 2 * low - span) // stride)
        if windows * stride >= size + low:
            windows -= 1
        if windows != wanted:
            return False
    return True


def _global(node: Node, places: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    """Places in a plane as places in the whole tensor, rows first or columns first."""
    plane = math.prod(data.shape[2:])
    if node.get("storage_order", 0):
        width, height = data.shape[-1], data.shape[-2]
        places = places % width * height + places // width
    first = torch.arange(data.shape[0] * data.shape[1]).reshape(data.shape[0], data.shape[1], *[1] * (data.dim() - 2))
    return places + first * plane


def average_pool(node: Node, data: torch.Tensor) -> torch.Tensor:
    held = window(node, data.shape[2:], node.get("kernel_shape", ()))
    whole, rounded_up = bool(node.get("count_include_pad", 0)), bool(node.get("ceil_mode", 0))
    fits = all(2 * side <= size for side, size in zip(held.before, held.kernel, strict=True))
    if held.is_even and fits and set(held.dilations) == {1}:
        return MEANS[data.dim() - 3](data, held.kernel, held.strides, held.before, rounded_up, whole)
    if whole and set(held.dilations) == {1} and not rounded_up:
        return MEANS[data.dim() - 3](F.pad(data, held.sides), held.kernel, held.strides)
    ones = torch.ones(1, 1, *data.shape[2:])
    counted = _sums(F.pad(ones, held.sides, value=1.0) if whole else ones, held, rounded_up, padded=whole)
    return _sums(data, held, rounded_up) / counted


def _sums(data: torch.Tensor, held: Window, rounded_up: bool, padded: bool = False) -> torch.Tensor:
    """The sum of each window, every channel by itself."""
    sides = [0] * len(held.sides) if padded else held.sides
    if rounded_up:
        sides = [side + more for side, more in zip(sides, _room(data.shape[2:], held, padded), strict=True)]
    kernel = torch.ones(1, 1, *held.kernel)
    image = F.pad(data, sides)
    flat = image.reshape(-1, 1, *image.shape[2:])
    result = CONVOLUTIONS[data.dim() - 3](flat, kernel, None, held.strides, 0, held.dilations)
    return result.reshape(*data.shape[:2], *result.shape[2:])


def _room(sizes: Sequence[int], held: Window, padded: bool) -> list[int]:
    """Zeros at the far sides for windows that begin inside and end beyond; in the order of torch."""
    sides: list[int] = []
    for axis, size in enumerate(sizes):
        low, high = (0, 0) if padded else (held.before[axis], held.after[axis])
        span, stride = held.spans[axis], held.strides[axis]
        windows = -(-(size + low + high - span) // stride)
        if windows * stride >= size + low:
            windows -= 1
        sides = [0, max(0, windows * stride + span - (size + low + high)), *sides]
    return sides


def lp_pool(node: Node, data: torch.Tensor) -> torch.Tensor:
    """The p-norm of each window."""
    power = node.get("p", 2)
    held = window(node, data.shape[2:], node.get("kernel_shape", ()))
    return _sums(data.abs() ** power, held, bool(node.get("ceil_mode", 0))) ** (1 / power)


def global_average_pool(node: Node, data: torch.Tensor) -> torch.Tensor:
    if data.dim() == 4:
        return F.adaptive_avg_pool2d(data, 1)
    return data.mean(tuple(range(2, data.dim())), keepdim=True)


def global_max_pool(node: Node, data: torch.Tensor) -> torch.Tensor:
    if data.dim() == 4:
        return F.adaptive_max_pool2d(data, 1)
    return data.amax(tuple(range(2, data.dim())), keepdim=True)


def global_lp_pool(node: Node, data: torch.Tensor) -> torch.Tensor:
    power = node.get("p", 2)
    return (data.abs() ** power).sum(tuple(range(2, data.dim())), keepdim=True) ** (1 / power)


def max_unpool(node: Node, data: torch.Tensor, places: torch.Tensor, shape: Sequence[int] | None = None) -> torch.Tensor:
    """Numbers back at their places in the whole tensor, zeros elsewhere; a larger result than the window asks for has them in its first corner."""
    rank = data.dim() - 2
    held = window(node, data.shape[2:], node.get("kernel_shape", ()))
    inner = [
        (size - 1) * stride - low - high + width
        for size, stride, low, high, width in zip(data.shape[2:], held.strides, held.before, held.after, held.kernel, strict=True)
    ]
    whole = [*data.shape[:2], *inner]
    flat = data.new_zeros(math.prod(whole)).scatter(0, places.reshape(-1), data.reshape(-1)).reshape(whole)
    if shape is None:
        return flat
    return F.pad(flat, [side for axis in range(rank + 1, 1, -1) for side in (0, shape[axis] - whole[axis])])
