"""Normalizations, and dropout."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

EPSILON = 1e-5
FIRST_GROUPS_BY_CHANNEL = 21  # before it, GroupNormalization has one scale for each group


def batch_norm(
    node: Node, data: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, variance: torch.Tensor
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Running statistics are buffers; the momentum of ONNX is what they keep, that of torch what they take."""
    momentum, epsilon = node.get("momentum", 0.9), node.get("epsilon", EPSILON)
    if not node.get("training_mode", 0):
        if node.outputs > 1:
            raise ModelError("it returns its statistics, as training does; export the network for inference.")
        return F.batch_norm(data, mean, variance, scale, bias, node.training, 1 - momentum, epsilon)
    result = F.batch_norm(data, None, None, scale, bias, True, 0.0, epsilon)
    axes = [axis for axis in range(data.dim()) if axis != 1]
    seen = data.mean(axes), data.var(axes, correction=0)
    return result, mean * momentum + seen[0] * (1 - momentum), variance * momentum + seen[1] * (1 - momentum)


def instance_norm(node: Node, data: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.instance_norm(data, weight=scale, bias=bias, eps=node.get("epsilon", EPSILON))


def layer_norm(node: Node, data: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor | tuple[torch.Tensor, ...]:
    axis, epsilon = node.get("axis", -1) % data.dim(), node.get("epsilon", EPSILON)
    sizes = data.shape[axis:]
    if tuple(scale.shape) == tuple(sizes) and (bias is None or bias.shape == scale.shape):
        result = F.layer_norm(data, sizes, scale, bias, epsilon)
    else:
        result = F.layer_norm(data, sizes, None, None, epsilon) * scale
        result = result if bias is None else result + bias
    if node.outputs < 2:
        return result
    axes = tuple(range(axis, data.dim()))
    mean = data.mean(axes, keepdim=True)
    return result, mean, torch.rsqrt(data.var(axes, correction=0, keepdim=True) + epsilon)


def group_norm(node: Node, data: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    groups, channels = node.get("num_groups"), data.shape[1]
    if node.opset < FIRST_GROUPS_BY_CHANNEL:
        scale, bias = scale.repeat_interleave(channels // groups), bias.repeat_interleave(channels // groups)
    return F.group_norm(data, groups, scale, bias, node.get("epsilon", EPSILON))


def rms_norm(node: Node, data: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    axes = tuple(range(node.get("axis", -1) % data.dim(), data.dim()))
    return data * torch.rsqrt(data.square().mean(axes, keepdim=True) + node.get("epsilon", EPSILON)) * scale


def local_response_norm(node: Node, data: torch.Tensor) -> torch.Tensor:
    """x / (bias + alpha / size * sum of squares of the channels around)^beta; for an even size the window reaches further ahead."""
    size = node.get("size")
    before, after = (size - 1) // 2, size // 2
    squares = F.pad(data.square(), [0, 0] * (data.dim() - 2) + [before, after])
    total = torch.stack([squares.narrow(1, place, data.shape[1]) for place in range(size)]).sum(0)
    return data / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * total) ** node.get("beta", 0.75)


def lp_norm(node: Node, data: torch.Tensor) -> torch.Tensor:
    """Each vector over its p-norm; a vector of zeros stays one."""
    axis, power = node.get("axis", -1), node.get("p", 2)
    norm = data.abs().sum(axis, keepdim=True) if power == 1 else data.square().sum(axis, keepdim=True).sqrt()
    return torch.where(norm == 0, data, data / norm)


def mean_variance_norm(node: Node, data: torch.Tensor) -> torch.Tensor:
    axes = tuple(node.get("axes", (0, 2, 3)))
    centred = data - data.mean(axes, keepdim=True)
    return centred / (centred.square().mean(axes, keepdim=True).sqrt() + 1e-9)


def dropout(
    node: Node, data: torch.Tensor, given: Sequence[float] | None = None, training: Sequence[bool] | None = None
) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
    """Drops while the network trains; a file that asks for it at inference too is a file of training."""
    ratio = node.get("ratio", 0.5) if given is None else given[0]
    if training is not None and training[0] and ratio and not node.training:
        raise ModelError("it drops numbers at random at every run; export the network for inference.")
    result = F.dropout(data, ratio, node.training)
    return result if node.outputs < 2 else (result, torch.ones(data.shape, dtype=torch.bool))


def skip_layer_norm(
    node: Node,
    data: torch.Tensor,
    skip: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
    """com.microsoft: a sum, then layer normalization; its fourth result is the sum."""
    total = data + skip if bias is None else data + skip + bias
    return _skipped(node, F.layer_norm(total, total.shape[-1:], gamma, beta, node.get("epsilon", 1e-12)), total)


def skip_rms_norm(
    node: Node, data: torch.Tensor, skip: torch.Tensor, gamma: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
    """com.microsoft.SkipSimplifiedLayerNormalization."""
    total = data + skip if bias is None else data + skip + bias
    scaled = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + node.get("epsilon", 1e-12)) * gamma
    return _skipped(node, scaled, total)


def _skipped(node: Node, result: torch.Tensor, total: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor | None, ...]:
    return result if node.outputs < 4 else (result, None, None, total)


def embed_layer_norm(  # noqa: PLR0913 - the inputs of the operator
    node: Node,
    tokens: torch.Tensor,
    segments: torch.Tensor | None,
    words: torch.Tensor,
    positions: torch.Tensor,
    segment_table: torch.Tensor | None,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    mask: torch.Tensor | None = None,
    places: torch.Tensor | None = None,
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """com.microsoft.EmbedLayerNormalization: embeddings of words, places and segments, added up and normalized."""
    total = F.embedding(tokens.long(), words)
    total = total + (positions[: tokens.shape[1]] if places is None else F.embedding(places.long(), positions))
    if segments is not None and segment_table is not None:
        total = total + F.embedding(segments.long(), segment_table)
    result = F.layer_norm(total, total.shape[-1:], gamma, beta, node.get("epsilon", 1e-12))
    if node.outputs < 2:
        return result
    count = torch.zeros(tokens.shape[:1], dtype=torch.int32) if mask is None else mask.sum(1).int()
    return (result, count) if node.outputs < 3 else (result, count, total)


def gelu(node: Node, data: torch.Tensor) -> torch.Tensor:
    """com.microsoft.Gelu, by the error function."""
    return F.gelu(data)


def bias_gelu(node: Node, data: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.gelu(data + bias)


def fast_gelu(node: Node, data: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    return F.gelu(data if bias is None else data + bias, approximate="tanh")


def quick_gelu(node: Node, data: torch.Tensor) -> torch.Tensor:
    return data * torch.sigmoid(node.get("alpha", 1.702) * data)


def bias_softmax(node: Node, data: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """com.microsoft.BiasSoftmax: over all axes from the given one on."""
    axis = node.get("axis", 1) % data.dim()
    if math.prod(data.shape[axis + 1 :]) == 1 or axis == data.dim() - 1:
        return torch.softmax(data + bias, axis)
    total = data + bias
    return torch.softmax(total.flatten(axis), axis).reshape(total.shape)
