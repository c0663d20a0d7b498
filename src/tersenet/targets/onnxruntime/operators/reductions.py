"""Pooling and reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.walk import bind, dtype_of, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, listed, unsupported


def max_pool(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    rank = len(given["kernel_size"])
    dilations = listed(given["dilation"], rank)
    return build.add("MaxPool", build.value(node.args[0]), **_window(node, given, rank), dilations=dilations if dilations != [1] * rank else None)


def average_pool(build: Lowering, node: fx.Node) -> str:
    given = bind(node)
    if given.get("divisor_override") is not None:
        raise unsupported(node, "it divides by a number of its own (divisor_override)")
    attributes = _window(node, given, len(given["kernel_size"]))
    counts = given["count_include_pad"] and attributes["pads"] is not None
    return build.add("AveragePool", build.value(node.args[0]), **attributes, count_include_pad=1 if counts else None)


def _window(node: fx.Node, given: dict[str, Any], rank: int) -> dict[str, Any]:
    if len(shape_of(node)) != rank + 2:
        raise unsupported(node, "its input has no batch axis", "give the network a batch of one")
    kernel = listed(given["kernel_size"], rank)
    strides = listed(given["stride"] or kernel, rank)
    pads = listed(given["padding"], rank)
    return {
        "kernel_shape": kernel,
        "strides": strides if strides != [1] * rank else None,
        "pads": pads * 2 if any(pads) else None,
        "ceil_mode": 1 if given["ceil_mode"] else None,
    }


def adaptive_average(build: Lowering, node: fx.Node) -> str:
    """The mean over an image; for other sizes, a product with a matrix of shares along each axis."""
    sizes = listed(bind(node)["output_size"], len(shape_of(node)) - 2)
    source = build.value(node.args[0])
    if all(size == 1 for size in sizes):
        return build.add("GlobalAveragePool", source)
    held = shape_of(node.args[0])[2:]  # type: ignore[arg-type]
    if not all(isinstance(size, int) for size in held):
        raise unsupported(node, "the size of its input is open")
    shares = [build.constant(_shares(int(have), want)) for have, want in zip(held, sizes, strict=True)]
    result = build.add("MatMul", source, shares[-1])
    if len(sizes) == 2:
        turned = build.add("Transpose", result, perm=[0, 1, 3, 2])
        result = build.add("Transpose", build.add("MatMul", turned, shares[0]), perm=[0, 1, 3, 2])
    return result


def _shares(have: int, want: int) -> np.ndarray:
    """How much of each input an output takes: torch's windows [floor(i * have / want), ceil((i + 1) * have / want))."""
    matrix = np.zeros((have, want), np.float32)
    for index in range(want):
        start, end = index * have // want, -(-(index + 1) * have // want)
        matrix[start:end, index] = 1 / (end - start)
    return matrix


def adaptive_max(build: Lowering, node: fx.Node) -> tuple[str]:
    """The largest value of an image; where it stands is not made."""
    sizes = listed(bind(node)["output_size"], 2)
    if sizes != [1, 1]:
        raise unsupported(node, f"it pools to {sizes}, and ONNX to 1x1 alone")
    return (build.add("ReduceMax", build.value(node.args[0]), build.sizes([2, 3])),)  # runs in integers, which GlobalMaxPool does not


def reduction(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """ReduceMean and its like over some axes, or all."""

    def build_reduction(build: Lowering, node: fx.Node) -> str:
        given, dtype = bind(node), dtype_of(node) or torch.float32
        rank = len(shape_of(node.args[0]))  # type: ignore[arg-type]
        axes = given.get("dim")
        chosen = list(range(rank)) if axes in (None, []) else [axis % rank for axis in listed(axes, 1)]
        keep = 1 if given.get("keepdim") else 0
        return build.add(kind, build.cast(node.args[0], dtype), build.sizes(chosen), keepdims=None if keep else 0)

    return build_reduction


def max_with_indices(build: Lowering, node: fx.Node) -> tuple[str, str]:
    given = bind(node)
    rank = len(shape_of(node.args[0]))  # type: ignore[arg-type]
    axis, keep = int(given["dim"]) % rank, 1 if given["keepdim"] else 0
    source = build.value(node.args[0])
    return build.add("ReduceMax", source, build.sizes([axis]), keepdims=keep), build.add("ArgMax", source, axis=axis, keepdims=keep)


def top(build: Lowering, node: fx.Node) -> tuple[str, ...]:
    """The so many largest or smallest along an axis, and where they are; of equal ones the first comes first."""
    given = bind(node)
    axis, count = int(given["dim"]) % len(shape_of(node.args[0])), build.sizes([given["k"]])  # type: ignore[arg-type]
    return build.add_many(
        "TopK", 2, build.value(node.args[0]), count, axis=axis, largest=None if given["largest"] else 0, sorted=None if given["sorted"] else 0
    )


def arg(kind: str) -> Callable[[Lowering, fx.Node], str]:
    """ArgMax and ArgMin along an axis, or over the flattened tensor."""

    def build_arg(build: Lowering, node: fx.Node) -> str:
        given = bind(node)
        source = build.value(node.args[0])
        if given["dim"] is None:
            flat = build.add("Reshape", source, build.sizes([-1]))
            return build.add(kind, flat, axis=0, keepdims=0)
        axis = int(given["dim"]) % len(shape_of(node.args[0]))  # type: ignore[arg-type]
        return build.add(kind, source, axis=axis, keepdims=1 if given["keepdim"] else 0)

    return build_arg


def variance(build: Lowering, node: fx.Node) -> str:
    """The mean of squared distances from the mean, times n / (n - correction)."""
    given = bind(node)
    source, rank = node.args[0], len(shape_of(node.args[0]))  # type: ignore[arg-type]
    axes = list(range(rank)) if not given.get("dim") else [axis % rank for axis in given["dim"]]
    counts = [shape_of(source)[axis] for axis in axes]  # type: ignore[arg-type]
    if not all(isinstance(count, int) for count in counts):
        raise unsupported(node, "an axis that it reduces has an open size")
    correction = given["correction"] if given.get("correction") is not None else int(given.get("unbiased", True))
    count, tensor, where = int(np.prod(counts)), build.value(source), build.sizes(axes)
    distance = build.add("Sub", tensor, build.add("ReduceMean", tensor, where))
    mean = build.add("ReduceMean", build.add("Mul", distance, distance), where, keepdims=None if given.get("keepdim") else 0)
    return mean if correction == 0 else build.add("Mul", mean, build.constant(np.array(count / (count - correction), np.float32)))


def cumulative_sum(build: Lowering, node: fx.Node) -> str:
    given, dtype = bind(node), dtype_of(node) or torch.float32
    return build.add("CumSum", build.cast(node.args[0], dtype), build.constant(np.array(given["dim"], np.int64)))


def norm(build: Lowering, node: fx.Node) -> str:
    """The first or second norm along some axes."""
    given = bind(node)
    kinds = {1: "ReduceL1", 2: "ReduceL2"}
    if given["ord"] not in kinds:
        raise unsupported(node, f"its order is {given['ord']}, and ONNX has 1 and 2")
    rank = len(shape_of(node.args[0]))  # type: ignore[arg-type]
    axes = list(range(rank)) if not given["dim"] else [axis % rank for axis in given["dim"]]
    return build.add(kinds[given["ord"]], build.value(node.args[0]), build.sizes(axes), keepdims=None if given["keepdim"] else 0)
