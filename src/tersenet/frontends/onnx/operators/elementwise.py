"""Arithmetic, bits, comparisons and logic: each element by itself, or with its counterpart."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import torch

from tersenet.frontends.onnx.node import Node

UNARY: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "BitwiseNot": torch.bitwise_not,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Det": torch.linalg.det,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,  # half to even, as ONNX asks
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
}
BINARY: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
VARIADIC: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"Max": torch.maximum, "Min": torch.minimum, "Sum": torch.add}


def unary(node: Node, data: torch.Tensor) -> torch.Tensor:
    return UNARY[node.kind](data)


def binary(node: Node, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return BINARY[node.kind](left, right)


def variadic(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    return functools.reduce(VARIADIC[node.kind], inputs)


def mean(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    return functools.reduce(torch.add, inputs) / len(inputs)


def divide(node: Node, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Integers are cut towards zero."""
    return torch.div(left, right) if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def modulo(node: Node, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """The sign of the divisor, or that of the dividend where `fmod` is set."""
    return torch.fmod(left, right) if node.get("fmod", 0) else torch.remainder(left, right)


def power(node: Node, base: torch.Tensor, exponent: torch.Tensor | float) -> torch.Tensor:
    """The result is of the base's type, whatever that of the exponent."""
    if isinstance(exponent, torch.Tensor) and base.is_floating_point() and not exponent.is_floating_point():
        exponent = exponent.to(base.dtype)
    return torch.pow(base, exponent).to(base.dtype)


def bit_shift(node: Node, data: torch.Tensor, amount: torch.Tensor) -> torch.Tensor:
    """Shifts by as many bits as the type has, or more, or by less than none, leave what the sign alone gives."""
    bits = data.element_size() * 8
    outside = (amount < 0) | (amount >= bits)
    within = torch.where(outside, torch.zeros_like(amount), amount)
    if node.get("direction") == "LEFT":
        return torch.where(outside, torch.zeros_like(data), torch.bitwise_left_shift(data, within))
    return torch.where(outside, torch.where(data < 0, -1, 0).to(data.dtype), torch.bitwise_right_shift(data, within))


def is_infinite(node: Node, data: torch.Tensor) -> torch.Tensor:
    positive, negative = node.get("detect_positive", 1), node.get("detect_negative", 1)
    if positive and negative:
        return torch.isinf(data)
    if positive:
        return torch.isposinf(data)
    return torch.isneginf(data) if negative else torch.zeros_like(data, dtype=torch.bool)


def where(node: Node, condition: torch.Tensor, chosen: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.where(condition, chosen, other)
