"""Weights of recurrent layers as torch has them, put in order once when the file is read, so that graphs hold them as parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tersenet.frontends.onnx.linear import OWN, readers
from tersenet.frontends.onnx.naming import layer_name
from tersenet.frontends.onnx.operators.recurrent import GATES, is_standard, torch_weights
from tersenet.frontends.onnx.program import Operation, Program
from tersenet.frontends.onnx.tensors import Constant

DIRECTIONS = ("", "_reverse")


def spell_recurrent(program: Program) -> None:
    """``LSTM``, ``GRU`` and ``RNN`` that are torch's own, with constant weights: (X, initial_h, initial_c, weights by torch's names)."""
    makers = {name: operation for operation in program.operations() for name in operation.outputs}
    for operation in list(program.operations()):
        node = operation.node
        if node.kind in GATES and not node.domain and is_standard(node):
            _spell(program, operation, makers)


def _spell(program: Program, operation: Operation, makers: Mapping[str, Operation]) -> None:
    data, weight, recurrence, bias, lengths, hidden, cell, peepholes = [*operation.inputs, *[""] * 8][:8]
    names = [name for name in (weight, recurrence, bias) if name]
    no_peepholes = not peepholes or (peepholes in program.constants and not bool(program.constants[peepholes].value.any()))
    if lengths or not no_peepholes or not all(name in program.constants for name in names):
        return
    found = [program.constants[name] for name in names]
    if [entry.value.dim() for entry in found] != [3, 3, 2][: len(found)]:
        return
    values = torch_weights(operation.node.kind, found[0].value, found[1].value, found[2].value if bias else None)
    parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: 4 if bias else 2]
    made = []
    for place, value in enumerate(values):
        direction, part = divmod(place, len(parts))
        name = f"{layer_name(operation.node)}.{parts[part]}_l0{DIRECTIONS[direction]}"
        program.constants[name] = Constant(value.contiguous(), "float32", found[min(part, len(found) - 1)].weight)
        made.append(name)
    counts = readers(program)
    for name in names:
        if counts[name] == 1:
            del program.constants[name]
    states = ("" if _is_zero(program, name, makers) else name for name in (hidden, cell))
    operation.node, operation.inputs = replace(operation.node, domain=OWN), (data, *states, *made)


def _is_zero(program: Program, name: str, makers: Mapping[str, Operation]) -> bool:
    """A state of zeros is what there is without one, and that has no batch written into it."""
    maker = makers.get(name)
    if maker is not None and maker.node.kind == "Expand":
        name = maker.inputs[0]
    elif maker is not None and maker.node.kind == "ConstantOfShape":
        return not np.any(maker.node.get("value", 0))
    return name in program.constants and not bool(program.constants[name].value.any())
