"""Reductions over axes, places of the largest and smallest, running sums and products, the best of each row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from tersenet.frontends.onnx.node import Node

Size = int | torch.SymInt
Reduce = Callable[[torch.Tensor, list[int], bool], torch.Tensor]
SMALLEST = -1  # what an empty set's largest value is like: no number is smaller
LARGEST = 1


def _product(data: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    for axis in sorted(axes, reverse=True):
        data = torch.prod(data, axis, keepdim=keep, dtype=data.dtype)
    return data


def _sum(data: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return torch.sum(data, axes, keepdim=keep, dtype=data.dtype) if axes else data


def _mean(data: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if not axes:
        return data
    if data.is_floating_point():
        return torch.mean(data, axes, keepdim=keep)
    count = math.prod(data.shape[axis] for axis in axes)
    return torch.div(_sum(data, axes, keep), count, rounding_mode="trunc")


def _extreme(operator: Callable[..., torch.Tensor], sign: int) -> Reduce:
    """Of an empty set: infinity, or the end of the type's range."""

    def reduced(data: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
        if not axes:
            return data
        if any(isinstance(data.shape[axis], int) and data.shape[axis] == 0 for axis in axes):
            return data.new_full(_shape_after(data, axes, keep), _end(data.dtype, sign))
        return operator(data, axes, keepdim=keep)

    return reduced


def _end(dtype: torch.dtype, sign: int) -> float | bool:
    if dtype is torch.bool:
        return sign == LARGEST
    if dtype.is_floating_point:
        return sign * math.inf
    return torch.iinfo(dtype).max if sign == LARGEST else torch.iinfo(dtype).min


def _shape_after(data: torch.Tensor, axes: Sequence[int], keep: bool) -> list[Size]:
    return [1 if axis in axes else size for axis, size in enumerate(data.shape) if keep or axis not in axes]


def _log_sum_exp(data: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    if not axes:
        return data
    return torch.logsumexp(data if data.is_floating_point() else data.to(torch.float32), axes, keepdim=keep).to(data.dtype)


REDUCTIONS: Mapping[str, Reduce] = {
    "ReduceL1": lambda data, axes, keep: _sum(data.abs(), axes, keep),
    "ReduceL2": lambda data, axes, keep: _sum(data * data, axes, keep).sqrt().to(data.dtype),
    "ReduceLogSum": lambda data, axes, keep: _sum(data, axes, keep).log().to(data.dtype),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": _extreme(torch.amax, SMALLEST),
    "ReduceMean": _mean,
    "ReduceMin": _extreme(torch.amin, LARGEST),
    "ReduceProd": _product,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda data, axes, keep: _sum(data * data, axes, keep),
}


def reduce(node: Node, data: torch.Tensor, given: Sequence[int] | None = None) -> torch.Tensor:
    """The axes are an attribute first, an input since opset 18 (ReduceSum: 13); none means all, unless the node says that none means none."""
    axes = node.get("axes") if given is None else given
    if not axes and not node.get("noop_with_empty_axes", 0):
        axes = range(data.dim())
    return REDUCTIONS[node.kind](
        data, sorted({axis % max(data.dim(), 1) for axis in axes or ()}) if data.dim() else [], bool(node.get("keepdims", 1))
    )


def arg_extreme(node: Node, data: torch.Tensor) -> torch.Tensor:
    """The first of equal ones, or the last where the node asks for it."""
    find = torch.argmax if node.kind == "ArgMax" else torch.argmin
    axis, keep = node.get("axis", 0), bool(node.get("keepdims", 1))
    if node.get("select_last_index", 0):
        return data.shape[axis] - 1 - find(data.flip(axis), axis, keepdim=keep)
    return find(data, axis, keepdim=keep)


def running(node: Node, data: torch.Tensor, given: Sequence[int]) -> torch.Tensor:
    """CumSum and CumProd; an exclusive one starts with nothing and leaves the last element out."""
    (axis,) = given
    along = torch.cumsum if node.kind == "CumSum" else torch.cumprod
    backwards = bool(node.get("reverse", 0))
    data = data.flip(axis) if backwards else data
    if node.get("exclusive", 0):
        first = data.narrow(axis, 0, 1)
        start = torch.zeros_like(first) if node.kind == "CumSum" else torch.ones_like(first)
        data = torch.cat([start, data.narrow(axis, 0, data.shape[axis] - 1)], axis)
    result = along(data, axis, dtype=data.dtype)
    return result.flip(axis) if backwards else result


def top(node: Node, data: torch.Tensor, given: Sequence[int] | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """TopK; of equal values the one that comes first. Their number is an attribute before opset 10."""
    count = node.get("k") if given is None else given[0]
    axis, largest = node.get("axis", -1), bool(node.get("largest", 1))
    values, places = torch.sort(data, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, count), places.narrow(axis, 0, count)
