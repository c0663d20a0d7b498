"""Activations: torch's own operator wherever the attributes are those that it stands for, so that runtimes know it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

PLAIN: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "HardSwish": F.hardswish,
    "Mish": F.mish,
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Tanh": torch.tanh,
}
# The numbers that torch's selu has built in, and ONNX as the defaults of its attributes.
SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805
FIRST_SOFTMAX_OF_ONE_AXIS = 13  # before it, softmax runs over all axes from the given one on


def plain(node: Node, data: torch.Tensor) -> torch.Tensor:
    return PLAIN[node.kind](data)


def clip(node: Node, data: torch.Tensor, low: torch.Tensor | float | None = None, high: torch.Tensor | float | None = None) -> torch.Tensor:
    """Limits are attributes before opset 11; the upper one wins where they cross."""
    low, high = node.get("min", low), node.get("max", high)
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        data = data if low is None else torch.maximum(data, torch.as_tensor(low, dtype=data.dtype))
        return data if high is None else torch.minimum(data, torch.as_tensor(high, dtype=data.dtype))
    if low is None and high is None:
        return data
    return F.relu6(data) if low == 0 and high == 6 and data.is_floating_point() else torch.clamp(data, low, high)


def elu(node: Node, data: torch.Tensor) -> torch.Tensor:
    return F.elu(data, node.get("alpha", 1.0))


def celu(node: Node, data: torch.Tensor) -> torch.Tensor:
    return F.celu(data, node.get("alpha", 1.0))


def selu(node: Node, data: torch.Tensor) -> torch.Tensor:
    alpha, gamma = node.get("alpha", SELU_ALPHA), node.get("gamma", SELU_GAMMA)
    if math.isclose(alpha, SELU_ALPHA, rel_tol=1e-6) and math.isclose(gamma, SELU_GAMMA, rel_tol=1e-6):
        return F.selu(data)
    return gamma * F.elu(data, alpha)


def leaky_relu(node: Node, data: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(data, node.get("alpha", 0.01))


def prelu(node: Node, data: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """One slope for each channel is torch's own; other shapes are written out."""
    if slope.numel() == 1 or (data.dim() > 1 and slope.dim() == data.dim() - 1 and slope.numel() == slope.shape[0] == data.shape[1]):
        return F.prelu(data, slope.reshape(-1))
    return F.relu(data) - slope * F.relu(-data)


def thresholded_relu(node: Node, data: torch.Tensor) -> torch.Tensor:
    return F.threshold(data, node.get("alpha", 1.0), 0.0)


def hard_sigmoid(node: Node, data: torch.Tensor) -> torch.Tensor:
    alpha, beta = node.get("alpha", 0.2), node.get("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return F.hardsigmoid(data)
    return torch.clamp(data * alpha + beta, 0.0, 1.0)


def gelu(node: Node, data: torch.Tensor) -> torch.Tensor:
    approximate = node.get("approximate", "none")
    if approximate not in {"none", "tanh"}:
        raise ModelError(f"the attribute approximate of Gelu must be 'none' or 'tanh', got {approximate!r}.")
    return F.gelu(data, approximate=approximate)


def swish(node: Node, data: torch.Tensor) -> torch.Tensor:
    alpha = node.get("alpha", 1.0)
    return F.silu(data) if alpha == 1.0 else data * torch.sigmoid(alpha * data)


def swiglu(node: Node, gate: torch.Tensor, data: torch.Tensor) -> torch.Tensor:
    return swish(node, gate) * data


def shrink(node: Node, data: torch.Tensor) -> torch.Tensor:
    bias, threshold = node.get("bias", 0.0), node.get("lambd", 0.5)
    shrunk = torch.where(data < -threshold, data + bias, torch.where(data > threshold, data - bias, 0.0))
    return shrunk.to(data.dtype)


def softmax(node: Node, data: torch.Tensor) -> torch.Tensor:
    return _normalized(node, data, lambda value, axis: torch.softmax(value, axis))


def log_softmax(node: Node, data: torch.Tensor) -> torch.Tensor:
    return _normalized(node, data, lambda value, axis: torch.log_softmax(value, axis))


def hardmax(node: Node, data: torch.Tensor) -> torch.Tensor:
    """One at the first of the largest, zero elsewhere."""

    def hard(value: torch.Tensor, axis: int) -> torch.Tensor:
        shape = [1] * value.dim()
        shape[axis] = value.shape[axis]
        places = torch.arange(value.shape[axis]).reshape(shape)
        return (places == torch.argmax(value, axis, keepdim=True)).to(value.dtype)

    return _normalized(node, data, hard)


def _normalized(node: Node, data: torch.Tensor, along: Callable[[torch.Tensor, int], torch.Tensor]) -> torch.Tensor:
    if node.opset >= FIRST_SOFTMAX_OF_ONE_AXIS:
        return along(data, node.get("axis", -1))
    axis = node.get("axis", 1) % max(data.dim(), 1)
    if axis >= data.dim() - 1:
        return along(data, -1)
    return along(data.flatten(axis), axis).reshape(data.shape)
