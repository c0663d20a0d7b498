"""Products of matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.convolution import conv

_EQUATION = re.compile(r"^[A-Za-z., >-]*$")
# What com.microsoft's fused operators apply to their result, by the names of ONNX's own.
ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "HardSwish": F.hardswish,
}


def matmul(node: Node, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.matmul(one, other)


def gemm(node: Node, one: torch.Tensor, other: torch.Tensor, addend: torch.Tensor | None = None) -> torch.Tensor:
    """alpha A' B' + beta C."""
    one = one.t() if node.get("transA", 0) else one
    other = other.t() if node.get("transB", 0) else other
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    result = one @ other
    result = result if alpha == 1 else result * alpha
    if addend is None or beta == 0:
        return result
    return result + (addend if beta == 1 else addend * beta)


def einsum(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    equation = node.get("equation", "")
    if not _EQUATION.match(equation):
        raise ModelError(f"the equation {equation[:60]!r} is not one of einsum.")
    return torch.einsum(equation, *inputs)


def fused_matmul(node: Node, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """com.microsoft.FusedMatMul and TransposeMatMul: transposed last axes, batch axes that lie between them, and a factor."""
    one = _turned(one, node.get("transA", 0), node.get("transBatchA", 0), left=True)
    other = _turned(other, node.get("transB", 0), node.get("transBatchB", 0), left=False)
    result, alpha = torch.matmul(one, other), node.get("alpha", 1.0)
    return result if alpha == 1 else result * alpha


def _turned(data: torch.Tensor, turned: int, batch: int, left: bool) -> torch.Tensor:
    if batch:
        data = data.movedim(0, -2)
    return data.transpose(-1, -2) if turned and data.dim() > 1 else data


def fused_gemm(node: Node, one: torch.Tensor, other: torch.Tensor, addend: torch.Tensor | None = None) -> torch.Tensor:
    return _activated(node, gemm(node, one, other, addend), node.get("activation", ""), [node.get("activation_alpha"), node.get("activation_beta")])


def fused_conv(
    node: Node, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, addend: torch.Tensor | None = None
) -> torch.Tensor:
    """com.microsoft.FusedConv: convolution, a sum, an activation."""
    result = conv(node, data, weight, bias)
    return _activated(node, result if addend is None else result + addend, node.get("activation", ""), node.get("activation_params") or [])


def _activated(node: Node, data: torch.Tensor, activation: str, numbers: list[float | None]) -> torch.Tensor:
    first, second = [*numbers, None, None][:2]
    if not activation:
        return data
    if activation == "LeakyRelu":
        return F.leaky_relu(data, 0.01 if first is None else first)
    if activation == "Clip":
        return F.relu6(data) if (first, second) == (0, 6) else torch.clamp(data, -math.inf if first is None else first, second)
    if activation == "HardSigmoid":
        return torch.clamp(data * (0.2 if first is None else first) + (0.5 if second is None else second), 0, 1)
    if activation not in ACTIVATIONS:
        raise ModelError(f"its activation {activation[:40]!r} is not one of {', '.join(ACTIVATIONS)}, LeakyRelu, Clip, HardSigmoid.")
    return ACTIVATIONS[activation](data)


def bias_add(node: Node, data: torch.Tensor, bias: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
    return data + bias + skip
