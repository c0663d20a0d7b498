"""LSTM and GRU: one operator a layer, whatever the length of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, is_constant, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, unsupported

# torch's order of gates -> ONNX's: input, forget, cell, output -> input, output, forget, cell; reset, update, new -> update, reset, new
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}


def lstm(build: Lowering, node: fx.Node) -> tuple[str, str, str]:
    """Hochreiter and Schmidhuber 1997, as torch writes it: output, last hidden states, last cell states."""
    results = _layers(build, node, "LSTM", bind(node)["hx"])
    return results[0], results[1], results[2]


def gru(build: Lowering, node: fx.Node) -> tuple[str, str]:
    """Cho et al. 2014, with the reset gate behind the product (``linear_before_reset``)."""
    results = _layers(build, node, "GRU", [bind(node)["hx"]])
    return results[0], results[1]


def _layers(build: Lowering, node: fx.Node, kind: str, states: Sequence[Any]) -> tuple[str, ...]:
    given = bind(node)
    if len(shape_of(given["input"])) != 3:
        raise unsupported(node, "its input has no batch axis", "give the network a batch of one")
    directions = 2 if given["bidirectional"] else 1
    per_layer = (4 if given["has_biases"] else 2) * directions
    if len(given["params"]) != per_layer * given["num_layers"]:
        raise unsupported(node, "it projects its hidden state")
    tensor = build.value(given["input"])
    if given["batch_first"]:
        tensor = build.add("Transpose", tensor, perm=[1, 0, 2])
    ends: list[list[str]] = [[] for _ in states]
    for layer in range(given["num_layers"]):
        weights = _weights(build, node, kind, given["params"][layer * per_layer : (layer + 1) * per_layer], directions)
        starts = [_start(build, state, layer, given["num_layers"], directions) for state in states]
        hidden = int(shape_of(given["params"][layer * per_layer + 1])[1])
        tensor, *lasts = _layer(build, kind, (tensor, *weights, "", *starts), hidden, directions)
        for end, last in zip(ends, lasts, strict=True):
            end.append(last)
    if given["batch_first"]:
        tensor = build.add("Transpose", tensor, perm=[1, 0, 2])
    return (tensor, *(end[0] if len(end) == 1 else build.add("Concat", *end, axis=0) for end in ends))


def _layer(build: Lowering, kind: str, inputs: tuple[str, ...], hidden: int, directions: int) -> tuple[str, ...]:
    """One layer; its result (length, directions, batch, hidden) becomes (length, batch, directions * hidden)."""
    attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else None}
    if kind == "GRU":
        attributes["linear_before_reset"] = 1
    results = build.add_many(kind, 3 if kind == "LSTM" else 2, *inputs, **attributes)
    if directions == 1:
        return build.add("Squeeze", results[0], build.sizes([1])), *results[1:]
    side_by_side = build.add("Transpose", results[0], perm=[0, 2, 1, 3])
    return build.add("Reshape", side_by_side, build.sizes([0, 0, -1])), *results[1:]


def _weights(build: Lowering, node: fx.Node, kind: str, parameters: Sequence[fx.Node], directions: int) -> tuple[str, str, str]:
    """W, R and B, each with one slice a direction."""
    if not all(is_constant(parameter) for parameter in parameters):
        raise unsupported(node, "its weights are computed while the network runs")
    each = len(parameters) // directions
    tensors = [_in_order(constant(build.module, parameter), ORDER[kind]) for parameter in parameters]
    sides = [tensors[side * each : (side + 1) * each] for side in range(directions)]
    inputs, recurrent = (torch.stack([side[index] for side in sides]) for index in (0, 1))
    biases = "" if each == 2 else build.constant(torch.stack([torch.cat(side[2:]) for side in sides]).numpy())
    return build.constant(inputs.numpy()), build.constant(recurrent.numpy()), biases


def _in_order(tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    gates = tensor.chunk(len(order))
    return torch.cat([gates[index] for index in order])


def _start(build: Lowering, state: Any, layer: int, layers: int, directions: int) -> str:
    """The state that a layer starts from; zeros, which ONNX takes by itself, are left out."""
    if kind_of(state) == "fill" and "zeros" in str(state.target):
        return ""
    if is_constant(state) and not constant(build.module, state).any():
        return ""
    tensor = build.value(state)
    if layers == 1:
        return tensor
    return build.add("Slice", tensor, build.sizes([layer * directions]), build.sizes([(layer + 1) * directions]), build.sizes([0]))
