"""Sums and products, comparisons, logic, casts: operators on whole tensors, element by element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.walk import bind, dtype_of, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, element_type, unsupported
from tersenet.targets.onnxruntime.operators import quantization


def binary(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """An operator on two tensors, both brought to the type of the result."""

    def build_binary(build: Lowering, node: fx.Node) -> str:
        if not isinstance(node.meta["val"], torch.Tensor):
            return size_arithmetic(kind)(build, node)
        given = bind(node)
        if given.get("alpha", 1) != 1:
            raise unsupported(node, "its second operand has a factor (alpha)")
        if given.get("rounding_mode") is not None:
            raise unsupported(node, "it rounds its quotient")
        dtype = _type_of(node)
        return build.add(kind, build.cast(node.args[0], dtype), build.cast(node.args[1], dtype))

    return build_binary


def extreme(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """The larger or the smaller of two tensors; on integers where all have the same numbers, for their order is the same."""

    def build_extreme(build: Lowering, node: fx.Node) -> str:
        integers = quantization.same_integers(build, node, node.args)
        if integers is None:
            return binary(kind)(build, node)
        build.integers[node] = build.add(kind, *integers)
        return build.value(node.args[0])  # nobody reads the value itself

    return build_extreme


def comparison(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """An operator on two tensors whose result is a truth; ``ne`` is a negated ``Equal``."""

    def build_comparison(build: Lowering, node: fx.Node) -> str:
        left, right = node.args[:2]
        dtype = _common_type(left, right)
        operands = build.cast(left, dtype), build.cast(right, dtype)
        return build.add("Not", build.add("Equal", *operands)) if kind == "NotEqual" else build.add(kind, *operands)

    return build_comparison


def unary(kind: str, **attributes: Any) -> Callable[[Lowering, fx.Node], str]:
    """An operator on one tensor that has the same name and meaning in both worlds."""

    def build_unary(build: Lowering, node: fx.Node) -> str:
        return build.add(kind, build.cast(node.args[0], _type_of(node)), **attributes)

    return build_unary


def logical(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """And, Or, Not of truths, or of the bits of integers."""

    def build_logical(build: Lowering, node: fx.Node) -> str:
        dtype = _type_of(node)
        if dtype is not torch.bool:
            return build.add(f"Bitwise{kind}", *(build.cast(argument, dtype) for argument in node.args))
        return build.add(kind, *(build.cast(argument, torch.bool) for argument in node.args))

    return build_logical


def _type_of(node: fx.Node) -> torch.dtype:
    return dtype_of(node) or torch.float32


def _common_type(left: Any, right: Any) -> torch.dtype:
    """torch's promotion: a tensor's type, unless the other operand's kind is higher."""
    values = [argument.meta["val"] if isinstance(argument, fx.Node) else argument for argument in (left, right)]
    return torch.result_type(*(torch.empty((1,) * value.dim(), dtype=value.dtype) if isinstance(value, torch.Tensor) else value for value in values))


def reversed_sub(build: Lowering, node: fx.Node) -> str:
    """``other - self``."""
    dtype = _type_of(node)
    if bind(node)["alpha"] != 1:
        raise unsupported(node, "its first operand has a factor (alpha)")
    return build.add("Sub", build.cast(node.args[1], dtype), build.cast(node.args[0], dtype))


def power(build: Lowering, node: fx.Node) -> str:
    """Pow; a square is a product."""
    dtype = _type_of(node)
    base = build.cast(node.args[0], dtype)
    return build.add("Mul", base, base) if node.args[1] == 2 else build.add("Pow", base, build.cast(node.args[1], dtype))


def square(build: Lowering, node: fx.Node) -> str:
    base = build.cast(node.args[0], _type_of(node))
    return build.add("Mul", base, base)


def reciprocal_root(build: Lowering, node: fx.Node) -> str:
    return build.add("Reciprocal", build.add("Sqrt", build.cast(node.args[0], _type_of(node))))


def matmul(build: Lowering, node: fx.Node) -> str:
    return build.add("MatMul", build.value(node.args[0]), build.value(node.args[1]))


def einsum(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    return build.add("Einsum", *(build.value(tensor) for tensor in given["tensors"]), equation=given["equation"])


def cast(build: Lowering, node: fx.Node) -> str:
    """A change of type; torch cuts fractions off towards zero, as ONNX does."""
    return build.cast(node.args[0], _type_of(node))


def where(build: Lowering, node: fx.Node) -> str:
    dtype = _type_of(node)
    condition, left, right = node.args[:3]
    return build.add("Where", build.cast(condition, torch.bool), build.cast(left, dtype), build.cast(right, dtype))


def masked_fill(build: Lowering, node: fx.Node) -> str:
    dtype = _type_of(node)
    source, mask, value = node.args[:3]
    return build.add("Where", build.cast(mask, torch.bool), build.cast(value, dtype), build.cast(source, dtype))


def fill(build: Lowering, node: fx.Node) -> str:
    """Zeros, ones or a number, in a shape that may be open."""
    dtype, name = _type_of(node), str(node.target)
    value = bind(node).get("fill_value", 1 if "ones" in name else 0)
    array = torch.tensor([value], dtype=dtype).numpy()
    given = bind(node)
    sizes = shape_of(node)
    if all(isinstance(size, int) for size in sizes):
        return build.constant(np.full(sizes, array[0]))
    shape = build.sizes(given["size"]) if "size" in given else build.shape(node.args[0])  # type: ignore[arg-type]
    return build.add("ConstantOfShape", shape, value=array)


def arange(build: Lowering, node: fx.Node) -> str:
    """Numbers in a row; the end may be a size that the graph computes."""
    given, dtype = bind(node), _type_of(node)
    parts = []
    for name, default in (("start", 0), ("end", None), ("step", 1)):
        number = given.get(name, default)
        if isinstance(number, fx.Node):
            number = build.add("Squeeze", build.value(number))
            parts.append(build.add("Cast", number, to=element_type(dtype)) if dtype is not torch.int64 else number)
        else:
            parts.append(build.constant(torch.tensor(number, dtype=dtype).numpy()))
    return build.add("Range", *parts)


def triangle(upper: int) -> Callable[[Lowering, fx.Node], str]:
    """Trilu: one triangle of a matrix, zeros elsewhere."""

    def build_triangle(build: Lowering, node: fx.Node) -> str:
        diagonal = bind(node)["diagonal"]
        return build.add("Trilu", build.value(node.args[0]), build.constant(np.array(diagonal, np.int64)) if diagonal else "", upper=upper)

    return build_triangle


def size(build: Lowering, node: fx.Node) -> str:
    """One size of a tensor, as an int64 tensor of one number."""
    source, axis = node.args[0], int(node.args[1])  # type: ignore[arg-type]
    axis %= len(shape_of(source))  # type: ignore[arg-type]
    return build.add("Shape", build.value(source), start=axis, end=axis + 1)


def size_arithmetic(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """Sums and products of sizes that the graph computes; ONNX's Div of integers rounds down positive ones."""

    def build_size(build: Lowering, node: fx.Node) -> str:
        operands = [build.value(part) if isinstance(part, fx.Node) else build.constant(np.array([part], np.int64)) for part in node.args]
        return build.add(kind, *operands)

    return build_size
