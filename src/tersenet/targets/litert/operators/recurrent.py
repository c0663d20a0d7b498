"""Recurrent layers: one operator for each layer and direction, whatever the length of the sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from tersenet.graph.walk import bind, constant, is_constant, shape_of
from tersenet.targets.litert.layout import identity
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.movement import cut

TANH = 4  # the schema's ActivationFunctionType
LEFT_OUT = -1


def lstm(low: Lowering, node: fx.Node) -> None:
    """aten.lstm in floats (Hochreiter and Schmidhuber 1997; equations as torch has them), by UNIDIRECTIONAL_SEQUENCE_LSTM.

    The operator keeps its state from one run to the next: whoever runs the file resets it (``reset_all_variables``).
    """
    arguments = bind(node)
    source = arguments["input"]
    if len(shape_of(source)) != 3:
        raise low.refuse(node, "an LSTM takes a batch of sequences; add a batch axis of 1")
    if not all(_is_zero(low, state) for state in arguments["hx"]):
        raise low.refuse(node, "an LSTM starts from a state of zeros; leave the initial state out")
    value = low.read(node, source, identity(3), 0)
    value = low.convert(value, value.order, None, tuple(shape_of(source)))
    time_axis = 1 if arguments["batch_first"] else 0
    directions = 2 if arguments["bidirectional"] else 1
    parameters = list(arguments["params"])
    count = len(parameters) // (arguments["num_layers"] * directions)
    tensor, last = value.tensor, []
    for layer in range(arguments["num_layers"]):
        made = []
        for direction in range(directions):
            start = (layer * directions + direction) * count
            held = [constant(low.module, parameter).float().numpy() for parameter in parameters[start : start + count]]
            biases = held[2:4] if arguments["has_biases"] else []
            projection = held[-1] if count in (3, 5) else None
            made.append(_direction(low, tensor, held[:2], biases, projection, time_axis, backwards=direction == 1))
            last.append(made[-1])
        tensor = made[0] if len(made) == 1 else _joined(low, made)
    _results(low, node, tensor, last, time_axis, directions)


def _is_zero(low: Lowering, state: fx.Node) -> bool:
    if is_constant(state):
        return not bool(constant(low.module, state).any())
    data = low.tensors[low.values[state].tensor].data
    return data is not None and not data.any()


def _direction(
    low: Lowering, tensor: int, weights: list[np.ndarray], biases: list[np.ndarray], projection: np.ndarray | None, time_axis: int, *, backwards: bool
) -> int:
    """One layer in one direction; a backward one reads and writes its sequence from the end."""
    axis = low.array([time_axis], "int32")
    if backwards:
        tensor = low.like("REVERSE_V2", (tensor, axis), tensor)
    into, back = (np.split(weight, 4) for weight in weights)  # input, forget, cell and output gate, in torch's order and the operator's
    units = into[0].shape[0]
    gates = np.split(sum(biases, np.zeros(4 * units, np.float32)), 4)
    shape = low.tensors[tensor].shape
    batch, width = shape[1 - time_axis], units if projection is None else projection.shape[0]
    inputs = [tensor, *(low.array(weight, "float32") for weight in (*into, *back)), LEFT_OUT, LEFT_OUT, LEFT_OUT]
    inputs += [low.array(gate, "float32") for gate in gates]
    inputs += [LEFT_OUT if projection is None else low.array(projection, "float32"), LEFT_OUT]
    inputs += [low.state((batch, width)), low.state((batch, units)), *[LEFT_OUT] * 4]
    options: dict[str, Any] = {"fusedActivationFunction": TANH, "timeMajor": time_axis == 0}
    made = low.emit("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, (*shape[:2], width), "float32", **options)
    return low.like("REVERSE_V2", (made, axis), made) if backwards else made


def _joined(low: Lowering, made: list[int]) -> int:
    shape = low.tensors[made[0]].shape
    return low.like("CONCATENATION", made, made[0], (*shape[:2], 2 * shape[2]), axis=2)


def _results(low: Lowering, node: fx.Node, tensor: int, last: list[int], time_axis: int, directions: int) -> None:
    """The sequence, and the last hidden state of every layer and direction where somebody asks for it."""
    for reader in node.users:
        which: Any = reader.args[1]
        if which == 0:
            low.define(reader, Stored(tensor, identity(3)))
        elif which == 1:
            states = [_at_end(low, made, time_axis, backwards=number % directions == 1) for number, made in enumerate(last)]
            shape = (len(states), *low.tensors[states[0]].shape)
            low.define(reader, Stored(low.like("PACK", states, states[0], shape, valuesCount=len(states), axis=0), identity(3)))
        elif reader.users:
            raise low.refuse(node, "the last cell state of an LSTM is not among its operator's results there")


def _at_end(low: Lowering, tensor: int, time_axis: int, *, backwards: bool) -> int:
    """The state after the last step, which a backward direction takes at the front."""
    shape = list(low.tensors[tensor].shape)
    begin, sizes = [0, 0, 0], list(shape)
    begin[time_axis], sizes[time_axis] = 0 if backwards else shape[time_axis] - 1, 1
    end = [first + size for first, size in zip(begin, sizes, strict=True)]
    taken = cut(low, tensor, sizes, begin, end, [1, 1, 1])
    return low.reshape(taken, [size for axis, size in enumerate(shape) if axis != time_axis])
