"""LSTM, GRU and plain recurrent layers: one operator a layer, whatever the length of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.formats.onnx import MICROSOFT
from tersenet.graph.gates import Cell, cells, starts_from_zeros, states_of
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, is_constant, shape_of
from tersenet.targets.onnxruntime.lowering import Lowering, unsupported
from tersenet.targets.onnxruntime.operators import quantization

# torch's order of gates -> ONNX's: input, forget, cell, output -> input, output, forget, cell; reset, update, new -> update, reset, new
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def lstm(build: Lowering, node: fx.Node) -> tuple[str, str, str]:
    """Hochreiter and Schmidhuber 1997, as torch writes it: output, last hidden states, last cell states."""
    results = _layers(build, node, "LSTM", states_of(node))
    return results[0], results[1], results[2]


def gru(build: Lowering, node: fx.Node) -> tuple[str, str]:
    """Cho et al. 2014, with the reset gate behind the product (``linear_before_reset``)."""
    results = _layers(build, node, "GRU", states_of(node))
    return results[0], results[1]


def plain(build: Lowering, node: fx.Node) -> tuple[str, str]:
    """Elman 1990, with tanh or relu."""
    results = _layers(build, node, "RNN", states_of(node))
    return results[0], results[1]


def _layers(build: Lowering, node: fx.Node, kind: str, states: Sequence[Any]) -> tuple[str, ...]:
    given = bind(node)
    if len(shape_of(given["input"])) != 3:
        raise unsupported(node, "its input has no batch axis", "give the network a batch of one")
    found, directions = cells(node), 2 if given["bidirectional"] else 1
    if any(cell.projection is not None for cell in found):
        raise unsupported(node, "it projects its hidden state")
    tensor = build.value(given["input"])
    if given["batch_first"]:
        tensor = build.add("Transpose", tensor, perm=[1, 0, 2])
    ends: list[list[str]] = [[] for _ in states]
    for layer in range(given["num_layers"]):
        own = found[layer * directions : (layer + 1) * directions]
        starts = [_start(build, state, layer, given["num_layers"], directions) for state in states]
        hidden = int(shape_of(given["params"][own[0].recurrent])[1])
        attributes: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional" if directions == 2 else None}
        attributes |= {"linear_before_reset": 1} if kind == "GRU" else {}
        attributes |= {"activations": ["Relu"] * directions} if kind_of(node) == "rnn_relu" else {}
        tensor, *lasts = _layer(build, node, kind, tensor, own, starts, attributes)
        for end, last in zip(ends, lasts, strict=True):
            end.append(last)
    if given["batch_first"]:
        tensor = build.add("Transpose", tensor, perm=[1, 0, 2])
    return (tensor, *(end[0] if len(end) == 1 else build.add("Concat", *end, axis=0) for end in ends))


def _layer(
    build: Lowering, node: fx.Node, kind: str, tensor: str, own: Sequence[Cell], starts: list[str], attributes: dict[str, Any]
) -> tuple[str, ...]:
    """One layer; its result (length, directions, batch, hidden) becomes (length, batch, directions * hidden)."""
    parameters = bind(node)["params"]
    into, back = ([parameters[place] for place in places] for places in ([cell.input for cell in own], [cell.recurrent for cell in own]))
    biases = _biases(build, node, kind, [[parameters[place] for place in cell.biases] for cell in own])
    if kind == "LSTM" and all(quantization.held_weight(build, weight) is not None for weight in (*into, *back)):
        numbers = [_integers(build, kind, weights) for weights in (into, back)]
        inputs = [tensor, numbers[0][0], numbers[1][0], biases, "", *starts, "", *numbers[0][1:], *numbers[1][1:]]
        results = build.add_many("DynamicQuantizeLSTM", 3, *inputs, domain=MICROSOFT, **attributes)
    else:
        inputs = [tensor, _floats(build, node, kind, into), _floats(build, node, kind, back), biases, "", *starts]
        results = build.add_many(kind, 1 + len(starts), *inputs, **attributes)
    if len(own) == 1:
        return build.add("Squeeze", results[0], build.sizes([1])), *results[1:]
    side_by_side = build.add("Transpose", results[0], perm=[0, 2, 1, 3])
    return build.add("Reshape", side_by_side, build.sizes([0, 0, -1])), *results[1:]


def _integers(build: Lowering, kind: str, weights: Sequence[fx.Node]) -> tuple[str, str, str]:
    """The matrices of a layer's directions as DynamicQuantizeLSTM takes them, (directions, inputs, 4 * hidden), with scales and zero points.

    The kernel steps from one direction's zero point to the next by as many as there are scales; one direction needs a single one.
    """
    held, scales = [], []
    for weight in weights:
        integers = quantization.held_weight(build, weight)
        assert integers is not None
        held.append(_in_order(integers, ORDER[kind]).t())
        scales.append(_scales(build, weight, ORDER[kind]))
    found = np.stack(scales)
    found = found[:, 0] if found.shape[1] == 1 else found
    zeros = np.zeros(1 if len(weights) == 1 else found.shape, np.int8)
    return build.constant(torch.stack(held).numpy()), build.constant(found), build.constant(zeros)


def _scales(build: Lowering, weight: fx.Node, order: tuple[int, ...]) -> np.ndarray:
    if quantization.channel_axis(weight) is None:
        return np.array([quantization.numbers(weight)[0]], np.float32)
    return _in_order(constant(build.module, weight.args[1]), order).numpy()  # type: ignore[arg-type]


def _floats(build: Lowering, node: fx.Node, kind: str, weights: Sequence[fx.Node]) -> str:
    """The matrices of a layer's directions, (directions, gates * hidden, inputs); those that are held in integers become floats in the file."""
    if not all(is_constant(weight) or quantization.held_weight(build, weight) is not None for weight in weights):
        raise unsupported(node, "its weights are computed while the network runs")
    if all(is_constant(weight) for weight in weights):
        return build.constant(torch.stack([_in_order(constant(build.module, weight), ORDER[kind]) for weight in weights]).numpy())
    sides = [_dequantized(build, kind, weight) for weight in weights]
    return sides[0] if len(sides) == 1 else build.add("Concat", *sides, axis=0)


def _dequantized(build: Lowering, kind: str, weight: fx.Node) -> str:
    integers = quantization.held_weight(build, weight)
    assert integers is not None
    held = build.constant(_in_order(integers, ORDER[kind])[None].numpy())
    scales = _scales(build, weight, ORDER[kind])
    if len(scales) == 1:
        return build.add("DequantizeLinear", held, build.constant(scales[0]))
    return build.add("DequantizeLinear", held, build.constant(scales))  # along axis 1, ONNX's own default


def _biases(build: Lowering, node: fx.Node, kind: str, sides: Sequence[Sequence[fx.Node]]) -> str:
    if not all(is_constant(bias) for side in sides for bias in side):
        raise unsupported(node, "its biases are computed while the network runs")
    if not sides[0]:
        return ""
    held = [torch.cat([_in_order(constant(build.module, bias), ORDER[kind]) for bias in side]) for side in sides]
    return build.constant(torch.stack(held).numpy())


def _in_order(tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    gates = tensor.chunk(len(order))
    return torch.cat([gates[index] for index in order])


def _start(build: Lowering, state: Any, layer: int, layers: int, directions: int) -> str:
    """The state that a layer starts from; zeros, which ONNX takes by itself, are left out."""
    if starts_from_zeros(build.module, state):
        return ""
    tensor = build.value(state)
    if layers == 1:
        return tensor
    return build.add("Slice", tensor, build.sizes([layer * directions]), build.sizes([(layer + 1) * directions]), build.sizes([0]))
