"""Sums, products, comparisons and choices, element by element, of values that may broadcast."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, dtype_of, is_constant, shape_of
from tersenet.schemes import Encoding
from tersenet.targets.litert.layout import Order, identity
from tersenet.targets.litert.lowering import Lowering, Stored, dtype_name

BINARY = {
    "add": "ADD",
    "sub": "SUB",
    "mul": "MUL",
    "div": "DIV",
    "maximum": "MAXIMUM",
    "minimum": "MINIMUM",
    "pow": "POW",
    "eq": "EQUAL",
    "ne": "NOT_EQUAL",
    "lt": "LESS",
    "le": "LESS_EQUAL",
    "gt": "GREATER",
    "ge": "GREATER_EQUAL",
    "logical_and": "LOGICAL_AND",
    "logical_or": "LOGICAL_OR",
}
WITH_ACTIVATION = {"ADD", "SUB", "MUL", "DIV"}
COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}


def binary(low: Lowering, node: fx.Node) -> None:
    """An operator of two values."""
    kind = kind_of(node)
    code, (left, right) = BINARY[kind], (node.args[0], node.args[1])
    if kind == "pow" and _constant_number(low, right) == 2:
        code, right = "MUL", left
    if kind == "add" and bind(node).get("alpha", 1) != 1:
        raise low.refuse(node, "a factor on integers must be written as a product")
    order = common_order(low, [left, right], len(shape_of(node)))
    dtype = _operand_dtype(low, node, (left, right))
    if kind.startswith("logical") and dtype is not torch.bool:
        raise low.refuse(node, "it works on the bits of numbers, and LiteRT on truths alone")
    operands = [operand(low, node, child, order, position, dtype) for position, child in enumerate((left, right))]
    options: dict[str, Any] = {"fusedActivationFunction": low.activation(node)} if code in WITH_ACTIVATION else {}
    if code in ("ADD", "SUB"):
        options["potScaleInt16"] = False
    low.result(node, code, operands, order, **options)


def _constant_number(low: Lowering, child: Any) -> float | None:
    """An operand that is one number of the file; None for every other."""
    if isinstance(child, fx.Node):
        return float(constant(low.module, child)) if is_constant(child) and constant(low.module, child).numel() == 1 else None
    return float(child)


def _operand_dtype(low: Lowering, node: fx.Node, children: tuple[Any, ...]) -> torch.dtype:
    """The type that both operands are computed in."""
    kinds = [dtype_of(child) for child in children if isinstance(child, fx.Node)]
    if kind_of(node) in COMPARISONS:
        found = kinds[0]
        for other in kinds[1:]:
            found = torch.promote_types(found, other)  # type: ignore[arg-type]
        floats = any(isinstance(child, float) for child in children)
        return torch.float32 if floats and not found.is_floating_point else found  # type: ignore[union-attr, return-value]
    found = dtype_of(node)
    assert found is not None
    return found


def common_order(low: Lowering, children: list[Any], rank: int) -> Order:
    """The order in which operands of a broadcasting operator meet: that of the largest."""
    best: tuple[int, Order] | None = None
    for child in children:
        if not isinstance(child, fx.Node) or is_constant(child) or len(shape_of(child)) != rank:
            continue
        size = math.prod(shape_of(child))
        if best is None or size > best[0]:
            best = (size, low.values[child].order)
    return best[1] if best is not None else identity(rank)


def operand(low: Lowering, node: fx.Node, child: Any, order: Order, position: int, dtype: torch.dtype | None = None) -> int:
    """One operand, its axes where the others have theirs.

    Args:
        dtype: the type to compute in; None: its own.
    """
    if not isinstance(child, fx.Node):
        wanted = dtype_name(dtype) if dtype is not None else "float32"
        return low.array([child], wanted)
    if is_constant(child):
        return _constant_operand(low, node, child, order, position, dtype)
    value = low.values[child]
    shape = tuple(shape_of(child))
    encoding = low.grid_for(node, child, position)
    if len(shape) == len(order):
        value = low.convert(value, order, encoding if value.encoding is not None else None, shape)
    else:
        value = low.convert(value, identity(len(shape)), encoding if value.encoding is not None else None, shape)
        if order != identity(len(order)) and shape:
            full = (*[1] * (len(order) - len(shape)), *shape)
            value = low.convert(Stored(low.reshape(value.tensor, full), identity(len(full)), value.encoding), order, value.encoding, full)
    return cast(low, value.tensor, dtype)


def cast(low: Lowering, tensor: int, dtype: torch.dtype | None) -> int:
    """The tensor in another type, where it is a plain one of a different type."""
    held = low.tensors[tensor]
    if dtype is None or held.numbers is not None or held.dtype == dtype_name(dtype):
        return tensor
    return low.emit("CAST", (tensor,), held.shape, dtype_name(dtype))


def _constant_operand(low: Lowering, node: fx.Node, child: fx.Node, order: Order, position: int, dtype: torch.dtype | None) -> int:
    held = constant(low.module, child)
    encoding = low.grid_for(node, child, position)
    if encoding is None and dtype is not None:
        held = held.to(dtype)
    if held.ndim == 0:
        held = held.reshape(1)
    if held.numel() > 1 and order != identity(len(order)):
        held = held.reshape(*[1] * (len(order) - held.ndim), *held.shape)
        turned = held.permute(order).contiguous()
        while turned.ndim > 1 and turned.shape[0] == 1:
            turned = turned[0]
        held = turned
    return low.operand(held, identity(held.ndim), encoding).tensor


def where(low: Lowering, node: fx.Node) -> None:
    """A choice between two values."""
    arguments = bind(node)
    children = [arguments["condition"], arguments["self"], arguments["other"]]
    order = common_order(low, children, len(shape_of(node)))
    dtype = dtype_of(node)
    condition = operand(low, node, children[0], order, 0, torch.bool)
    chosen = [operand(low, node, child, order, position, dtype) for position, child in enumerate(children[1:], 1)]
    low.result(node, "SELECT_V2", (condition, *chosen), order)


def masked_fill(low: Lowering, node: fx.Node) -> None:
    """A value with some elements replaced by a number."""
    arguments = bind(node)
    order = common_order(low, [arguments["self"], arguments["mask"]], len(shape_of(node)))
    dtype = dtype_of(node)
    mask = operand(low, node, arguments["mask"], order, 1, torch.bool)
    number = arguments["value"]
    if low.tensors[low.values[arguments["self"]].tensor].dtype == "float32":
        number = float(np.clip(number, torch.finfo(torch.float32).min, torch.finfo(torch.float32).max))
    fill = low.array([number], dtype_name(node.meta["val"].dtype))
    low.result(node, "SELECT_V2", (mask, fill, operand(low, node, arguments["self"], order, 0, dtype)), order)


def clamp(low: Lowering, node: fx.Node) -> None:
    """Limits from below and above; two sets of limits have an operator of their own."""
    arguments = bind(node)
    value = low.read(node, arguments["self"], position=0)
    limits = (arguments["min"], arguments["max"])
    if limits in ((-1, 1), (0, 1)) and value.encoding is None:
        low.result(node, "RELU_N1_TO_1" if limits[0] else "RELU_0_TO_1", (value.tensor,), value.order, value.columns)
        return
    planned = low.plan.values.get(low.result_of(node).name) if value.encoding is not None else None
    value = low.convert(value, value.order, planned, tuple(shape_of(node)))  # the conversion clips, too
    tensor, held = value.tensor, low.tensors[value.tensor]
    reach = value.encoding.range if value.encoding is not None else (-math.inf, math.inf)
    for limit, code, outside in zip(limits, ("MAXIMUM", "MINIMUM"), (reach[0] < (limits[0] or 0), reach[1] > (limits[1] or 0)), strict=True):
        if limit is not None and outside:
            number = rounded_to_grid(limit, value.encoding) if value.encoding is not None else limit
            tensor = low.like(code, (tensor, low.array([number], held.dtype, held.numbers)), value.tensor)
    low.define(node, Stored(tensor, value.order, value.encoding, value.columns))


def rounded_to_grid(number: float, encoding: Encoding) -> int:
    """The integer of a grid that stands for a number."""
    rounded = round(float(np.float32(number) / np.float32(encoding.scale[0]))) + encoding.zero_point[0]
    return min(max(rounded, encoding.scheme.lowest), encoding.scheme.highest)


def to_type(low: Lowering, node: fx.Node) -> None:
    """A cast."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    value = low.read(node, source, position=0)
    wanted = dtype_of(node)
    assert wanted is not None
    low.define(node, Stored(cast(low, value.tensor, wanted), value.order))
