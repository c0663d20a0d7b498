"""Quantized values: QuantizeLinear, DequantizeLinear, and what needs neither."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, is_constant
from tersenet.targets.onnxruntime.lowering import Lowering

QUANTIZE = "quantize_per_tensor.default"
DEQUANTIZE = "dequantize_per_tensor.default"
DEQUANTIZE_CHANNELS = "dequantize_per_channel.default"


def quantize(build: Lowering, node: fx.Node) -> str:
    """``q = clamp(round(r / scale) + zero point)``, unless the value is held in integers already."""
    source = source_of(node)
    if source in build.integers:
        return build.integers[source]
    return build.add("QuantizeLinear", build.value(source), *parameters(build, node))


def dequantize(build: Lowering, node: fx.Node) -> str:
    """``r = scale * (q - zero point)``."""
    return build.add("DequantizeLinear", build.value(node.args[0]), *parameters(build, node))


def dequantize_channels(build: Lowering, node: fx.Node) -> str:
    """The same with a scale for each index of an axis."""
    return laid_out(build, node, constant(build.module, source_of(node)).numpy(), channel_axis(node))


def laid_out(build: Lowering, node: fx.Node, integers: np.ndarray, axis: int | None = None) -> str:
    """A dequantized constant, its integers perhaps laid out otherwise than the graph has them.

    Args:
        node: the conversion in the graph.
        integers: what the file shall hold.
        axis: that the scales run along there; None: as in the graph.
    """
    axis = channel_axis(node) if axis is None else axis
    if axis is None:
        return build.add("DequantizeLinear", build.constant(integers), *parameters(build, node))
    scales, zeros = (constant(build.module, argument).numpy() for argument in node.args[1:3] if isinstance(argument, fx.Node))
    # The zero points may be left out where they are 0, but onnxruntime 1.32 runs Gemm in integers only if it sees them.
    seen = zeros.any() or any(kind_of(user) == "linear" for user in node.users)
    zero_points = build.constant(zeros.astype(integers.dtype)) if seen and integers.dtype != np.int32 else ""
    return build.add("DequantizeLinear", build.constant(integers), build.constant(scales), zero_points, axis=None if axis == 1 else axis)


def parameters(build: Lowering, node: fx.Node) -> tuple[str, str]:
    """Scale and zero point of a per-tensor conversion, as constants."""
    return constants(build, numbers(node))


def constants(build: Lowering, found: tuple[Any, ...]) -> tuple[str, str]:
    """Scale and zero point among a conversion's numbers, as constants."""
    scale, zero_point, _, _, dtype = found
    kind = str(dtype).removeprefix("torch.")
    zero = "" if kind == "int32" else build.constant(np.array(zero_point, dtype=kind))
    return build.constant(np.array(scale, dtype=np.float32)), zero


def numbers(node: fx.Node) -> tuple[Any, ...]:
    """What two conversions must have in common to be the same."""
    return node.args[1:]


def conversion(node: fx.Node) -> tuple[Any, ...] | None:
    """The numbers that every reader of a value quantizes it with; None where a reader wants floats, or they differ."""
    readers = list(node.users)
    if not readers or any(kind_of(reader) != QUANTIZE for reader in readers):
        return None
    found = {numbers(reader) for reader in readers}
    return found.pop() if len(found) == 1 else None


def is_dequantized(node: Any) -> bool:
    """Whether a value was an 8-bit tensor that is no constant."""
    return isinstance(node, fx.Node) and kind_of(node) == DEQUANTIZE and not is_constant(node.args[0])


def same_integers(build: Lowering, node: fx.Node, sources: Sequence[Any]) -> list[str] | None:
    """The integers behind an operator's operands, where operands and result all have equal numbers; else None.

    What only moves or compares values can then be applied to the integers themselves.
    """
    found = conversion(node)
    if found is None or any(kind_of(source) != DEQUANTIZE or numbers(source) != found for source in sources):
        return None
    return [build.value(source.args[0]) for source in sources]


def as_integer(value: float, node_numbers: tuple[Any, ...]) -> int:
    """What a number becomes on a grid."""
    scale, zero_point, low, high, _ = node_numbers
    return int(np.clip(np.round(np.float32(value) / np.float32(scale)) + zero_point, low, high))


def held_weight(build: Lowering, node: fx.Node) -> torch.Tensor | None:
    """The integers behind a dequantized constant, else None."""
    if kind_of(node) in (DEQUANTIZE, DEQUANTIZE_CHANNELS) and is_constant(node.args[0]):
        return constant(build.module, source_of(node))
    return None


def source_of(node: fx.Node) -> fx.Node:
    """What a conversion reads."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    return source


def channel_axis(node: fx.Node) -> int | None:
    """The axis that the scales of a dequantized constant run along; None for one scale."""
    return int(bind(node)["axis"]) if kind_of(node) == DEQUANTIZE_CHANNELS else None
