"""Recurrent layers: one operator for each layer and direction, whatever the length of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from tersenet.formats.tflite import Numbers
from tersenet.graph.gates import Cell, cells, keeps_states_to_itself
from tersenet.graph.walk import bind, constant, shape_of
from tersenet.numerics.affine import quantize
from tersenet.targets.litert.layout import identity
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.movement import cut

TANH = 4  # the schema's ActivationFunctionType
LEFT_OUT = -1


def lstm(low: Lowering, node: fx.Node) -> None:
    """aten.lstm (Hochreiter and Schmidhuber 1997; equations as torch has them), by UNIDIRECTIONAL_SEQUENCE_LSTM.

    In floats, or with int8 weights of one scale a gate: the kernel then quantizes each row that it multiplies them by. The operator keeps
    its state from one run to the next: whoever runs the file resets it (``reset_all_variables``).
    """
    arguments = bind(node)
    source = arguments["input"]
    if len(shape_of(source)) != 3:
        raise low.refuse(node, "an LSTM takes a batch of sequences; add a batch axis of 1")
    if not keeps_states_to_itself(low.module, node):
        raise low.refuse(node, "an LSTM starts from a state of zeros, and its last cell state is not among its operator's results there")
    value = low.read(node, source, identity(3), 0)
    value = low.convert(value, value.order, None, tuple(shape_of(source)))
    time_axis = 1 if arguments["batch_first"] else 0
    found, directions = cells(node), 2 if arguments["bidirectional"] else 1
    tensor, last = value.tensor, []
    for start in range(0, len(found), directions):
        made = [_direction(low, node, cell, tensor, time_axis) for cell in found[start : start + directions]]
        last += made
        tensor = made[0] if len(made) == 1 else _joined(low, made)
    _results(low, node, tensor, last, time_axis, directions)


def _direction(low: Lowering, node: fx.Node, cell: Cell, tensor: int, time_axis: int) -> int:
    """One layer in one direction; a backward one reads and writes its sequence from the end."""
    axis = low.array([time_axis], "int32")
    if cell.backwards:
        tensor = low.like("REVERSE_V2", (tensor, axis), tensor)
    parameters = bind(node)["params"]
    units = int(shape_of(parameters[cell.input])[0]) // 4
    biases = [constant(low.module, parameters[place]).float().numpy() for place in cell.biases]
    gates = np.split(sum(biases, np.zeros(4 * units, np.float32)), 4)
    shape = low.tensors[tensor].shape
    batch, width = shape[1 - time_axis], int(shape_of(parameters[cell.recurrent])[1])
    inputs = [tensor, *_weights(low, node, cell.input, 4), *_weights(low, node, cell.recurrent, 4), LEFT_OUT, LEFT_OUT, LEFT_OUT]
    inputs += [low.array(gate, "float32") for gate in gates]
    inputs += [LEFT_OUT if cell.projection is None else _weights(low, node, cell.projection, 1)[0], LEFT_OUT]
    inputs += [low.state((batch, width)), low.state((batch, units)), *[LEFT_OUT] * 4]
    options: dict[str, Any] = {"fusedActivationFunction": TANH, "timeMajor": time_axis == 0}
    made = low.emit("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, (*shape[:2], width), "float32", **options)
    return low.like("REVERSE_V2", (made, axis), made) if cell.backwards else made


def _weights(low: Lowering, node: fx.Node, place: int, gates: int) -> list[int]:
    """A matrix cut into those of its gates: input, forget, cell and output, in torch's order and the operator's."""
    tensor, unit = constant(low.module, bind(node)["params"][place]), low.unit(node)
    encoding = unit.weights[f"params.{place}"] if unit is not None else None
    if encoding is None:
        return [low.array(part, "float32") for part in np.split(tensor.float().numpy(), gates)]
    parts = np.split(quantize(tensor, encoding).numpy(), gates)
    scales = encoding.scale[:: len(encoding.scale) // gates] if len(encoding.scale) > 1 else encoding.scale * gates
    return [low.array(part, "int8", Numbers((scale,), (0,))) for part, scale in zip(parts, scales, strict=True)]


def _joined(low: Lowering, made: list[int]) -> int:
    shape = low.tensors[made[0]].shape
    return low.like("CONCATENATION", made, made[0], (*shape[:2], 2 * shape[2]), axis=2)


def _results(low: Lowering, node: fx.Node, tensor: int, last: Sequence[int], time_axis: int, directions: int) -> None:
    """The sequence, and the last hidden state of every layer and direction where somebody asks for it."""
    for reader in node.users:
        which: Any = reader.args[1]
        if which == 0:
            low.define(reader, Stored(tensor, identity(3)))
        elif which == 1:
            states = [_at_end(low, made, time_axis, backwards=number % directions == 1) for number, made in enumerate(last)]
            shape = (len(states), *low.tensors[states[0]].shape)
            low.define(reader, Stored(low.like("PACK", states, states[0], shape, valuesCount=len(states), axis=0), identity(3)))


def _at_end(low: Lowering, tensor: int, time_axis: int, *, backwards: bool) -> int:
    """The state after the last step, which a backward direction takes at the front."""
    shape = list(low.tensors[tensor].shape)
    begin, sizes = [0, 0, 0], list(shape)
    begin[time_axis], sizes[time_axis] = 0 if backwards else shape[time_axis] - 1, 1
    end = [first + size for first, size in zip(begin, sizes, strict=True)]
    taken = cut(low, tensor, sizes, begin, end, [1, 1, 1])
    return low.reshape(taken, [size for axis, size in enumerate(shape) if axis != time_axis])
