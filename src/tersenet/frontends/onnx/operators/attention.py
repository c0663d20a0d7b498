"""Attention, and the turning of queries and keys by their places."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

Result = torch.Tensor | tuple[torch.Tensor | None, ...]


def attention(
    node: Node,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
    lengths: torch.Tensor | None = None,
) -> Result:
    """softmax(Q K^T * scale + mask) V (Vaswani et al. 2017, equation 1); three axes hold all heads side by side."""
    flat = query.dim() == 3
    if flat:
        query, key, value = (_by_head(part, node.get(heads)) for part, heads in zip((query, key, value), HEADS, strict=True))
    before = past_key.shape[2] if past_key is not None else 0
    if past_key is not None and past_value is not None:
        key, value = torch.cat([past_key, key], 2), torch.cat([past_value, value], 2)
    present = key, value
    key, value = _repeated(key, query.shape[1]), _repeated(value, query.shape[1])
    mask = _mask(node, query, key, mask, before if lengths is None else lengths.reshape(-1, 1, 1, 1) - query.shape[2])
    if lengths is not None:
        mask = _with(mask, torch.arange(key.shape[2]) < lengths.reshape(-1, 1, 1, 1))
    scale = node.get("scale") or 1 / math.sqrt(query.shape[-1])
    if node.get("softcap", 0.0) or node.outputs > 3:
        result, scores = _written_out(node, query, key, value, mask, scale)
    else:
        result, scores = F.scaled_dot_product_attention(query, key, value, mask, scale=scale), None
    if flat:
        result = result.transpose(1, 2).flatten(2)
    return result if node.outputs < 2 else (result, *present, scores)[: node.outputs]


HEADS = ("q_num_heads", "kv_num_heads", "kv_num_heads")


def _by_head(part: torch.Tensor, heads: Any) -> torch.Tensor:
    """(batch, length, heads * size) -> (batch, heads, length, size)"""
    if not heads:
        raise ModelError("with three axes it must say how many heads there are.")
    return part.reshape(part.shape[0], part.shape[1], heads, part.shape[2] // heads).transpose(1, 2)


def _repeated(part: torch.Tensor, heads: int) -> torch.Tensor:
    """Keys that several heads of queries share, once for each."""
    return part if part.shape[1] == heads else part.repeat_interleave(heads // part.shape[1], 1)


def _mask(node: Node, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, before: Any) -> torch.Tensor | None:
    """What is added to the scores; a mask shorter than the keys ends the ones that are looked at.

    Args:
        before: place of the first query among the keys.
    """
    if mask is not None and mask.dtype is torch.bool:
        mask = torch.where(mask, torch.tensor(0.0), torch.tensor(-math.inf))
    if mask is not None and isinstance(mask.shape[-1], int) and isinstance(key.shape[2], int) and mask.shape[-1] < key.shape[2]:
        mask = F.pad(mask, (0, key.shape[2] - mask.shape[-1]), value=-math.inf)
    left, right = node.get("left_window_size", -1), node.get("right_window_size", -1)
    rows, columns = torch.arange(query.shape[2]).unsqueeze(1) + before, torch.arange(key.shape[2]).unsqueeze(0)
    if node.get("is_causal", 0):
        mask = _with(mask, columns <= rows)
    if left >= 0:
        mask = _with(mask, columns >= rows - left)
    if right >= 0:
        mask = _with(mask, columns <= rows + right)
    return mask


def _with(mask: torch.Tensor | None, seen: torch.Tensor) -> torch.Tensor:
    """A mask that hides what is not seen, too."""
    added = torch.where(seen, torch.tensor(0.0), torch.tensor(-math.inf))
    return added if mask is None else mask + added


def _written_out(
    node: Node, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The result, and the scores as they are after the step that is asked for: 0 the product, 1 the cap, 2 the mask, 3 softmax."""
    product, cap = query * scale @ key.transpose(-1, -2), node.get("softcap", 0.0)
    capped = cap * torch.tanh(product / cap) if cap else product
    masked = capped if mask is None else capped + mask
    weights = torch.softmax(masked, -1)
    if mask is not None:  # a query that sees no key is a row of zeros
        weights = torch.where(torch.isneginf(masked.amax(-1, keepdim=True)), torch.tensor(0.0), weights)
    return weights @ value, (product, capped, masked, weights)[node.get("qk_matmul_output_mode", 0)]


def rotary(node: Node, data: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
    """Pairs of numbers turned by angles that grow with their place (Su et al. 2021, "RoFormer", equation 34)."""
    flat = data.dim() == 3
    if flat:
        data = _by_head(data, node.get("num_heads"))
    width = node.get("rotary_embedding_dim", 0) or data.shape[-1]
    turned, kept = data[..., :width], data[..., width:]
    if places is not None:
        cosines, sines = F.embedding(places, cosines), F.embedding(places, sines)
    cosines, sines = cosines[..., : width // 2].unsqueeze(1), sines[..., : width // 2].unsqueeze(1)
    if node.get("interleaved", 0):
        real, imaginary = turned[..., 0::2], turned[..., 1::2]
    else:
        real, imaginary = turned[..., : width // 2], turned[..., width // 2 :]
    parts = real * cosines - imaginary * sines, real * sines + imaginary * cosines
    turned = torch.stack(parts, -1).flatten(-2) if node.get("interleaved", 0) else torch.cat(parts, -1)
    result = torch.cat([turned, kept], -1) if width != data.shape[-1] else turned
    return result.transpose(1, 2).flatten(2) if flat else result


def microsoft_rotary(node: Node, data: torch.Tensor, places: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """com.microsoft.RotaryEmbedding: places come second, and one place alone is where the first of each sequence is."""
    if places.dim() < 2:
        length = data.shape[1 if data.dim() == 3 else 2]
        places = (places + torch.arange(length)).unsqueeze(0).expand(data.shape[0], length)
    held = dict(node.attributes)
    if data.dim() == 3 and not held.get("num_heads"):
        held["num_heads"] = data.shape[2] // (2 * cosines.shape[-1])
    return rotary(Node(node.kind, node.domain, node.opset, node.name, held), data, cosines, sines, places)


def multi_head(  # noqa: PLR0913 - the inputs of the operator
    node: Node,
    query: torch.Tensor,
    key: torch.Tensor | None = None,
    value: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    padding: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
    past_key: torch.Tensor | None = None,
    past_value: torch.Tensor | None = None,
) -> Result:
    """com.microsoft.MultiHeadAttention."""
    if key is None or value is None or query.dim() != 3 or key.dim() != 3:
        raise ModelError("packed queries, keys and values are not read; export without that fusion.")
    if bias is not None:
        query, key, value = (
            part + offset for part, offset in zip((query, key, value), bias.split([query.shape[2], key.shape[2], value.shape[2]]), strict=True)
        )
    held = {name: node.attributes[name] for name in ("scale",) if name in node.attributes}
    held |= {"q_num_heads": node.get("num_heads"), "kv_num_heads": node.get("num_heads"), "is_causal": node.get("unidirectional", 0)}
    mask = added
    if padding is not None:
        if padding.dim() == 1 and len(padding) == len(query):  # how many keys of each sample count
            padding = torch.arange(key.shape[1]) < padding.unsqueeze(1)
        if padding.dim() != 2:
            raise ModelError("a mask of keys must be (batch, keys), or (batch) lengths, here.")
        hidden = torch.where(padding.bool(), torch.tensor(0.0), torch.tensor(node.get("mask_filter_value", -10000.0)))[:, None, None, :]
        mask = hidden if mask is None else mask + hidden
    return attention(Node("Attention", "", 23, node.name, held, node.outputs), query, key, value, mask, past_key, past_value)


def packed(
    node: Node,
    data: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    padding: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    added: torch.Tensor | None = None,
) -> torch.Tensor:
    """com.microsoft.Attention: one product makes queries, keys and values."""
    if past is not None or node.outputs > 1:
        raise ModelError("it keeps keys and values of earlier steps; export without that.")
    made = data @ weight if bias is None else data @ weight + bias
    query, key, value = made.split(node.get("qkv_hidden_sizes") or [made.shape[-1] // 3] * 3, -1)
    result = multi_head(node, query, key, value, None, padding, added)
    return result[0] if isinstance(result, tuple) and result[0] is not None else result  # type: ignore[return-value]
