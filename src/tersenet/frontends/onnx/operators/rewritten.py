"""What the frontend itself rewrites the operators of files into."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tersenet.frontends.onnx.node import Node


def linear(node: Node, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.linear(data, weight, bias)


def fake_quantize(node: Node, data: torch.Tensor) -> torch.Tensor:
    """Marks the grid of a value; the graph loses it again once it is traced, and the model notes it down."""
    held = node.attributes
    return torch.fake_quantize_per_tensor_affine(data, held["scale"], held["zero_point"], held["low"], held["high"])
