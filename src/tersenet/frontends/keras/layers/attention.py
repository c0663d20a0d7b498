"""Attention: by dot products, by sums, with several heads, with heads that share keys and values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.arguments import axis_size, choice, flag, number, parameter, title, value, variables, whole

_HIDDEN = -1e9  # what Keras puts where a score is masked


def masked_softmax(scores: Tensor, mask: Tensor | None, zeroed: bool) -> Tensor:
    """Softmax over the last axis of what the mask leaves; where it leaves nothing, zero or equal weights."""
    if mask is None:
        return torch.softmax(scores, -1)
    weights = torch.softmax(torch.where(mask, scores, _HIDDEN), -1)
    return torch.where(mask, weights, 0.0) if zeroed else weights


def causal(queries: int, keys: int) -> Tensor:
    """(1, queries, keys): True where a key is no later than the query."""
    return (torch.arange(queries).reshape(-1, 1) >= torch.arange(keys).reshape(1, -1)).unsqueeze(0)


class MultiHead(nn.Module):
    """Attention of several heads (Vaswani et al. 2017, section 3.2.2).

    Args:
        query, key, value: linear layers to heads * width, heads side by side.
        output: linear layer from heads * width.
        gate: linear layer whose sigmoid scales what the heads give, or None.
        heads: of queries.
        shared: of keys and values; each serves heads / shared queries.
        window: keys at this distance or more are not attended to; 0 for none.
    """

    def __init__(self, layer: Layer, parts: dict[str, nn.Linear], heads: int, shared: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.output = (parts[name] for name in ("query", "key", "value", "output"))
        self.gate = parts.get("gate")
        self.heads, self.shared = heads, shared
        self.dropout = number(layer, "dropout", 0.0)
        self.window = whole(layer, "sliding_window", 0, least=0)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        mask: Any = None,
        attention_mask: Tensor | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        shape = query.shape
        query, value, key = (x if x.dim() == 3 else x.flatten(1, -2) for x in (query, value, value if key is None else key))
        given = list(mask) if isinstance(mask, list | tuple) else [mask]
        hidden = self._hidden(query, value, [*given, None, None][:3], attention_mask, use_causal_mask)
        q, k, v = self._split(self.query(query), self.heads), self._split(self.key(key), self.shared), self._split(self.value(value), self.shared)
        if self.shared != self.heads:
            k, v = (x.repeat_interleave(self.heads // self.shared, 1) for x in (k, v))
        weights = None
        if hidden is None and not return_attention_scores and not self.dropout:  # an exported fused operator keeps no dropout for training
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=use_causal_mask)
        else:
            scores = torch.matmul(q / math.sqrt(q.shape[-1]), k.transpose(-1, -2))
            if hidden is None and use_causal_mask:
                hidden = causal(query.shape[1], value.shape[1])
            written_out = bool(self.dropout) or return_attention_scores  # Keras has two ways, which differ where all keys are masked
            weights = masked_softmax(scores, None if hidden is None else hidden.unsqueeze(-3), written_out)
            mixed = torch.matmul(F.dropout(weights, self.dropout, self.training), v)
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.gate is not None:
            mixed = mixed * torch.sigmoid(self.gate(query))
        result = self.output(mixed)
        result = result.reshape(-1, *shape[1:-1], result.shape[-1])
        return (result, weights) if return_attention_scores else result

    def _split(self, x: Tensor, heads: int) -> Tensor:
        return x.reshape(-1, x.shape[1], heads, x.shape[2] // heads).transpose(1, 2)

    def _hidden(self, query: Tensor, value: Tensor, masks: list[Tensor | None], given: Tensor | None, is_causal: bool) -> Tensor | None:
        """(batch or 1, queries, keys): True where a query may attend to a key; None where every one may, or where only later ones are hidden."""
        parts = [] if masks[0] is None else [masks[0].unsqueeze(-1)]
        parts += [mask.unsqueeze(-2) for mask in masks[1:] if mask is not None]
        if self.window:
            distance = torch.arange(query.shape[1]).reshape(-1, 1) - torch.arange(value.shape[1]).reshape(1, -1)
            parts.append((distance.abs() < self.window).unsqueeze(0))
        if given is not None:
            parts.append(given.to(torch.bool))
        if is_causal and parts:
            parts.append(causal(query.shape[1], value.shape[1]))
        result = None
        for part in parts:
            result = part if result is None else torch.logical_and(result, part)
        return result

    def output_mask(self, query: Tensor, *others: Tensor, mask: Any = None) -> Tensor | None:
        return mask[0] if isinstance(mask, list | tuple) else mask


def _linear(kernel: np.ndarray, bias: np.ndarray | None, inputs: int) -> nn.Linear:
    """A dense layer over several axes as one over joined axes.

    Args:
        inputs: how many first axes of the kernel are summed over.
    """
    matrix = kernel.reshape(math.prod(kernel.shape[:inputs]), -1)
    with torch.device("meta"):  # numbers drawn for it would move the user's random state
        made = nn.Linear(*matrix.shape, bias=bias is not None)
    made.weight = parameter(matrix.T)
    if bias is not None:
        made.bias = parameter(bias.reshape(-1))
    return made


def _dense(layer: Layer, name: str, shape: tuple[int | None, ...], inputs: int, biased: bool) -> nn.Linear:
    """One of the dense layers inside an attention layer: Keras has called it with and without an underscore."""
    held = next((layer.weights.children[each] for each in (f"{name}_dense", f"_{name}_dense") if each in layer.weights.children), Weights())
    bias: tuple[int | None, ...] = shape[inputs:]
    found = variables(Layer(layer.kind, f"{layer.name}/{name}", layer.config, held), shape, *[bias] * biased)
    return _linear(found[0], found[1] if biased else None, inputs)


def multi_head(layer: Layer) -> nn.Module:
    """``MultiHeadAttention``."""
    heads, width = whole(layer, "num_heads"), whole(layer, "key_dim")
    rank = len(layer.input_shapes[0]) if layer.input_shapes else 0
    attended = value(layer, "attention_axes")
    if attended is not None and sorted(axis % rank for axis in attended) != list(range(1, rank - 1)):
        raise ModelError(f"{title(layer)} attends over the axes {attended} of {rank}; only over all between the batch and the features is converted.")
    if value(layer, "output_shape") is not None and not isinstance(_sizes(layer, "output_shape"), int):
        raise ModelError(f"{title(layer)} has an output of several axes, which is not converted.")
    return _heads(layer, heads, heads, width, whole(layer, "value_dim", width), _sizes(layer, "output_shape"))


def grouped_query(layer: Layer) -> nn.Module:
    """``GroupQueryAttention``: groups of heads share their keys and values (Ainslie et al. 2023)."""
    heads, shared, width = whole(layer, "num_query_heads"), whole(layer, "num_key_value_heads"), whole(layer, "head_dim")
    if heads % shared:
        raise ModelError(f"{title(layer)} has {heads} heads of queries, which must be a multiple of its {shared} heads of keys.")
    return _heads(layer, heads, shared, width, width, None)


def _sizes(layer: Layer, name: str) -> Any:
    found = value(layer, name)
    return found[0] if isinstance(found, list | tuple) and len(found) == 1 else found


def _heads(layer: Layer, heads: int, shared: int, width: int, value_width: int, outputs: int | None) -> nn.Module:
    shapes = [*layer.input_shapes][:3]
    if len(shapes) < 2:
        raise ModelError(f"{title(layer)} takes a query and a value, got {len(shapes)} tensors.")
    features = [axis_size(layer, shape, -1) for shape in (shapes[0], shapes[1], shapes[-1] if len(shapes) > 2 else shapes[1])]
    biased = flag(layer, "use_bias", True)
    parts = {
        "query": _dense(layer, "query", (features[0], heads, width), 1, biased),
        "key": _dense(layer, "key", (features[2], shared, width), 1, biased),
        "value": _dense(layer, "value", (features[1], shared, value_width), 1, biased),
        "output": _dense(layer, "output", (heads, value_width, outputs or features[0]), 2, biased),
    }
    if flag(layer, "use_gate", False):
        parts["gate"] = _dense(layer, "gate", (features[0], heads, value_width), 1, biased)
    return MultiHead(layer, parts, heads, shared)


class Scored(nn.Module):
    """One head without matrices: ``Attention`` (Luong et al. 2015) and ``AdditiveAttention`` (Bahdanau et al. 2015).

    Args:
        score: dot, concat or additive.
        scale: of the scores, or None.
        outer: of the sum in the score of concat, or None.
    """

    def __init__(self, score: str, scale: nn.Parameter | None, outer: nn.Parameter | None, dropout: float) -> None:
        super().__init__()
        self.score, self.scale, self.outer, self.dropout = score, scale, outer, dropout

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        mask: Any = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> Any:
        scores = self._scores(query, value if key is None else key)
        given = [*(mask if isinstance(mask, list | tuple) else [mask]), None]
        hidden = None if given[1] is None else given[1].unsqueeze(-2)
        if use_causal_mask:
            later = causal(scores.shape[-2], scores.shape[-1])
            hidden = later if hidden is None else torch.logical_and(hidden, later)
        weights = torch.softmax(scores if hidden is None else torch.where(hidden, scores, scores + _HIDDEN), -1)
        result = torch.matmul(F.dropout(weights, self.dropout, self.training), value)
        if given[0] is not None:
            result = torch.where(given[0].unsqueeze(-1), result, 0.0)
        return (result, weights) if return_attention_scores else result

    def _scores(self, query: Tensor, key: Tensor) -> Tensor:
        if self.score == "dot":
            scores = torch.matmul(query, key.transpose(-1, -2))
            return scores if self.scale is None else scores * self.scale
        both = query.unsqueeze(-2) + key.unsqueeze(-3)
        if self.score == "additive":
            mixed = torch.tanh(both)
            return (mixed if self.scale is None else mixed * self.scale).sum(-1)
        mixed = torch.tanh(both if self.scale is None else both * self.scale).sum(-1)
        return mixed if self.outer is None else mixed * self.outer

    def output_mask(self, query: Tensor, *others: Tensor, mask: Any = None) -> Tensor | None:
        return mask[0] if isinstance(mask, list | tuple) else mask


def attention(layer: Layer) -> nn.Module:
    """``Attention``."""
    score = choice(layer, "score_mode", ("dot", "concat"), "dot")
    scaled = flag(layer, "use_scale", False)
    found = variables(layer, *[()] * (scaled + (score == "concat")))
    scale = parameter(found[0]) if scaled else None
    return Scored(score, scale, parameter(found[-1]) if score == "concat" else None, number(layer, "dropout", 0.0))


def additive(layer: Layer) -> nn.Module:
    """``AdditiveAttention``."""
    scaled = flag(layer, "use_scale", True)
    found = variables(layer, *[(axis_size(layer, layer.input_shapes[0], -1),)] * scaled)
    return Scored("additive", parameter(found[0]) if scaled else None, None, number(layer, "dropout", 0.0))
