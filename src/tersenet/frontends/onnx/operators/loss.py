"""The losses that ONNX has as operators."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from tersenet.frontends.onnx.node import Node

NOTHING_IGNORED = -(1 << 31)  # torch ignores class -100 unless told otherwise


def negative_log_likelihood(node: Node, scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    ignored, reduction = node.get("ignore_index", NOTHING_IGNORED), node.get("reduction", "mean")
    return F.nll_loss(scores, target.to(torch.int64), weight, ignore_index=ignored, reduction=reduction)


def softmax_cross_entropy(node: Node, scores: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    """The loss, and the logarithms of the probabilities."""
    logarithms = torch.log_softmax(scores, 1)
    return negative_log_likelihood(node, logarithms, target, weight), logarithms
