"""Arithmetic on sizes while a network is traced: whole numbers and symbols beside the tensors, so that an open batch stays open."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

Size = int | torch.SymInt
MOST_AXES = 32
LARGEST = 4096  # elements of a constant that takes part
_CAST: Mapping[int, str] = {1: "float32", 6: "int32", 7: "int64", 9: "bool", 10: "float32", 11: "float32"}  # sizes are small: float32 is exact


@dataclass(frozen=True)
class Sizes:
    """A tensor whose numbers are known while tracing, some as symbols.

    Args:
        values: an array of objects: int, float, bool, or torch's symbols for them.
        dtype: what the tensor would be of.
    """

    values: np.ndarray
    dtype: str = "int64"

    @classmethod
    def of(cls, numbers: Any, dtype: str = "int64") -> Sizes:
        return cls(_objects(numbers), dtype)

    @property
    def flat(self) -> tuple[Any, ...]:
        return tuple(self.values.reshape(-1).tolist())

    def tensor(self) -> torch.Tensor:
        """The same as a tensor of the graph."""
        dtype = getattr(torch, self.dtype)
        if not any(isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) for value in self.flat):
            return torch.tensor(self.values.tolist(), dtype=dtype)
        parts = [torch.scalar_tensor(value, dtype=dtype) for value in self.flat]
        return torch.stack(parts).reshape(self.values.shape)


def _objects(numbers: Any) -> np.ndarray:
    """An array of objects; a list of symbols, or one alone."""
    if isinstance(numbers, np.ndarray):
        return numbers.astype(object)
    if not isinstance(numbers, Sequence):
        alone = np.empty((), object)
        alone[()] = numbers
        return alone
    made = np.empty(len(numbers), object)
    for place, number in enumerate(numbers):
        made[place] = number
    return made


def from_tensor(value: torch.Tensor) -> Sizes:
    """The numbers of a constant."""
    return Sizes(value.numpy().astype(object), str(value.dtype).removeprefix("torch."))


def shape(node: Node, data: torch.Tensor) -> Sizes:
    """The sizes of a tensor: where all arithmetic on them begins."""
    sizes = list(data.shape)
    return Sizes.of(sizes[node.get("start", 0) : node.get("end", len(sizes))])


def size(node: Node, data: torch.Tensor) -> Sizes:
    """How many elements a tensor has."""
    return Sizes.of(data.numel())


def _binary(function: Callable[[Any, Any], Any], dtype: str = "") -> Callable[..., Sizes]:
    def computed(node: Node, one: Sizes, other: Sizes) -> Sizes:
        left, right = np.broadcast_arrays(one.values, other.values)
        made = np.empty(left.shape, object)
        for place in np.ndindex(*left.shape):
            made[place] = function(left[place], right[place])
        return Sizes(made, dtype or one.dtype)

    return computed


def _unary(function: Callable[[Any], Any], dtype: str = "") -> Callable[..., Sizes]:
    def computed(node: Node, one: Sizes) -> Sizes:
        made = np.empty(one.values.shape, object)
        for place in np.ndindex(*one.values.shape):
            made[place] = function(one.values[place])
        return Sizes(made, dtype or one.dtype)

    return computed


def _divide(node: Node, one: Sizes, other: Sizes) -> Sizes:
    """Sizes are not negative, so that rounding down is what ONNX asks for; numbers that are known are cut."""

    def divided(left: Any, right: Any) -> Any:
        if one.dtype.startswith("float"):
            return left / right
        if isinstance(left, int) and isinstance(right, int):
            return int(left / right) if right else 0
        return left // right

    return _binary(divided)(node, one, other)


def _where(node: Node, condition: Sizes, one: Sizes, other: Sizes) -> Sizes:
    chosen, left, right = np.broadcast_arrays(condition.values, one.values, other.values)
    made = np.empty(chosen.shape, object)
    for place in np.ndindex(*chosen.shape):
        made[place] = left[place] if bool(chosen[place]) else right[place]
    return Sizes(made, one.dtype)


def _cast(node: Node, one: Sizes) -> Sizes:
    dtype = _CAST.get(node.get("to"), "")
    if not dtype:
        raise ModelError(f"{node.name} casts a size to type {node.get('to')}")
    change: Callable[[Any], Any] = {"float32": torch.sym_float, "bool": lambda value: value != 0}.get(dtype, torch.sym_int)
    return _unary(change, dtype)(node, one)


def _gather(node: Node, one: Sizes, indices: Sizes) -> Sizes:
    places = indices.values.astype(np.int64)
    return Sizes(_objects_of(np.take(one.values, places, axis=node.get("axis", 0))), one.dtype)


def _objects_of(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else _objects(value)


def _slice(node: Node, one: Sizes, *limits: Sizes | None) -> Sizes:
    given = [limit.flat if limit is not None else None for limit in limits]
    starts, ends, axes, steps = [*given, None, None, None, None][:4]
    starts, ends = starts if starts is not None else node.get("starts"), ends if ends is not None else node.get("ends")
    axes = axes if axes is not None else node.get("axes", range(len(starts)))
    index: list[slice] = [slice(None)] * one.values.ndim
    for place, axis in enumerate(axes):
        step = int(steps[place]) if steps is not None else 1
        end = int(ends[place])
        index[int(axis)] = slice(int(starts[place]), None if step < 0 and end < -one.values.shape[int(axis)] else end, step)
    return Sizes(one.values[tuple(index)], one.dtype)


def _concat(node: Node, *parts: Sizes) -> Sizes:
    return Sizes(np.concatenate([part.values for part in parts], axis=node.get("axis", 0)), parts[0].dtype)


def _axes(node: Node, axes: Sizes | None) -> tuple[int, ...] | None:
    given = axes.flat if axes is not None else node.get("axes")
    return None if given is None else tuple(int(axis) for axis in given)


def _unsqueeze(node: Node, one: Sizes, axes: Sizes | None = None) -> Sizes:
    return Sizes(np.expand_dims(one.values, _axes(node, axes) or ()), one.dtype)


def _squeeze(node: Node, one: Sizes, axes: Sizes | None = None) -> Sizes:
    return Sizes(_objects_of(np.squeeze(one.values, _axes(node, axes))), one.dtype)


def _reshape(node: Node, one: Sizes, wanted: Sizes) -> Sizes:
    return Sizes(one.values.reshape([int(size) for size in wanted.flat]), one.dtype)


def _expand(node: Node, one: Sizes, wanted: Sizes) -> Sizes:
    target = np.broadcast_shapes(one.values.shape, tuple(int(size) for size in wanted.flat))
    return Sizes(np.broadcast_to(one.values, target), one.dtype)


def _product(node: Node, one: Sizes, axes: Sizes | None = None) -> Sizes:
    made = np.prod(one.values, axis=_axes(node, axes), keepdims=bool(node.get("keepdims", 1)))
    return Sizes(_objects_of(made), one.dtype)


def _filled(node: Node, wanted: Sizes) -> Sizes | None:
    """A short list of one whole number; None for what is no arithmetic on sizes."""
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    if value.dtype.kind not in "iub" or wanted.values.size > 1 or not all(isinstance(size, int) and 0 <= size <= MOST_AXES for size in wanted.flat):
        return None
    return Sizes(np.full(wanted.flat, value.reshape(-1)[0].item(), object), value.dtype.name)


def _range(node: Node, start: Sizes, limit: Sizes, step: Sizes) -> Sizes | None:
    """None where it ends at a symbol: how many numbers there are is not known."""
    ends = (*start.flat, *limit.flat, *step.flat)
    if not all(isinstance(end, int | float) for end in ends) or abs(ends[1] - ends[0]) > LARGEST * abs(ends[2]):
        return None
    return Sizes(np.arange(*ends).astype(object), start.dtype)


def _split(node: Node, one: Sizes, lengths: Sizes | None = None) -> tuple[Sizes, ...]:
    axis = node.get("axis", 0)
    given = lengths.flat if lengths is not None else node.get("split")
    if given is None:
        each = -(-one.values.shape[axis] // node.get("num_outputs", node.outputs))
        given = [each] * node.outputs
    cuts = np.cumsum([int(length) for length in given])[:-1]
    return tuple(Sizes(part, one.dtype) for part in np.split(one.values, cuts, axis=axis))


def _floor(value: Any) -> Any:
    return torch.sym_float(torch.sym_int(value)) if isinstance(value, torch.SymFloat) else float(np.floor(value))


def _ceil(value: Any) -> Any:
    import math

    return torch.sym_float(math.ceil(value))


# What can be computed on sizes alone, where every input is known.
ARITHMETIC: Mapping[str, Callable[..., Sizes | tuple[Sizes, ...] | None]] = {
    "Add": _binary(operator.add),
    "Cast": _cast,
    "Ceil": _unary(_ceil),
    "Concat": _concat,
    "ConstantOfShape": _filled,
    "Div": _divide,
    "Equal": _binary(operator.eq, "bool"),
    "Expand": _expand,
    "Floor": _unary(_floor),
    "Gather": _gather,
    "Greater": _binary(operator.gt, "bool"),
    "GreaterOrEqual": _binary(operator.ge, "bool"),
    "Identity": _unary(lambda value: value),
    "Less": _binary(operator.lt, "bool"),
    "LessOrEqual": _binary(operator.le, "bool"),
    "Max": _binary(torch.sym_max),
    "Min": _binary(torch.sym_min),
    "Mod": _binary(operator.mod),
    "Mul": _binary(operator.mul),
    "Neg": _unary(operator.neg),
    "Not": _unary(lambda value: not value, "bool"),
    "And": _binary(lambda one, other: bool(one) and bool(other), "bool"),
    "Or": _binary(lambda one, other: bool(one) or bool(other), "bool"),
    "Range": _range,
    "ReduceProd": _product,
    "Reshape": _reshape,
    "Shape": lambda node, one: Sizes.of(list(one.values.shape)[node.get("start", 0) : node.get("end", one.values.ndim)]),
    "Size": lambda node, one: Sizes.of(one.values.size),
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Sub": _binary(operator.sub),
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
# What makes sizes of tensors.
SOURCES: Mapping[str, Callable[[Node, torch.Tensor], Sizes]] = {"Shape": shape, "Size": size}
# Those among them that only move numbers, as their further inputs say.
MOVEMENTS = frozenset({"Expand", "Gather", "ReduceProd", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"})
