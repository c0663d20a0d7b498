"""onnxruntime's fused operators that are neither products nor attention."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.product import fused_conv


def nhwc_conv(
    node: Node, data: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None, addend: torch.Tensor | None = None
) -> torch.Tensor:
    """NhwcConv, NhwcFusedConv: channels last in the data and in the result; weights lie as in ONNX's own Conv."""
    inputs = [None if part is None else part.permute(0, 3, 1, 2) for part in (data, addend)]
    assert inputs[0] is not None
    return fused_conv(replace(node, kind="Conv", domain=""), inputs[0], weight, bias, inputs[1]).permute(0, 2, 3, 1)


def group_norm(node: Node, data: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """GroupNorm of networks that make pictures: channels last unless said, and SiLU behind it where asked."""
    last = node.get("channels_last", 1)
    data = data.permute(0, 3, 1, 2) if last else data
    result = F.group_norm(data, node.get("groups"), gamma, beta, node.get("epsilon", 1e-5))
    result = F.silu(result) if node.get("activation", 0) else result
    return result.permute(0, 2, 3, 1) if last else result


def skip_group_norm(
    node: Node, data: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, skip: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """SkipGroupNorm: a sum, then GroupNorm; its second result is the sum."""
    total = data + skip if bias is None else data + skip + bias
    result = group_norm(node, total, gamma, beta)
    return result if node.outputs < 2 else (result, total)


def bias_split_gelu(node: Node, data: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """BiasSplitGelu: one half of the channels, weighed by the GELU of the other (Shazeer 2020, "GLU variants", equation 6)."""
    values, gates = (data + bias).chunk(2, -1)
    return values * F.gelu(gates)


def bias_dropout(node: Node, data: torch.Tensor, bias: torch.Tensor, skip: torch.Tensor | None = None, *_: torch.Tensor) -> torch.Tensor:
    """BiasDropout in evaluation: the sums alone."""
    return data + bias if skip is None else data + bias + skip


def expand_dims(node: Node, data: torch.Tensor, axis: tuple[int, ...]) -> torch.Tensor:
    return data.unsqueeze(axis[0])


def distances(node: Node, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """CDist: of each row of one matrix to each of the other, by |a|^2 - 2 a b + |b|^2."""
    squares = left.square().sum(1, keepdim=True) - 2 * left @ right.t() + right.square().sum(1)
    squares = torch.clamp(squares, min=0)
    return squares if node.get("metric", "sqeuclidean") == "sqeuclidean" else torch.sqrt(squares)
