"""Weights of at most 4 bits as INT4 constants: the same integers in half the bytes.

onnxruntime's integer kernels take weights of 8 bits, and behind a DequantizeLinear of 4 it fuses none: the network would run in floats (one like
ResNet-8 in 0.75 ms for 0.16). So a Cast stands in front of the DequantizeLinear. It depends on constants alone and is computed when the file is
loaded; what is fused then is the network of 8 bits, operator by operator.
"""

from __future__ import annotations

import torch

from tersenet.formats.nibbles import fit
from tersenet.formats.onnx import Graph, Operator
from tersenet.targets.four_bits import said
from tersenet.targets.onnxruntime.lowering import element_type

# The first version whose Cast takes INT4.
RUNTIME = "onnxruntime>=1.23"
# Operator -> which of its inputs are weights.
WEIGHTS = {"DequantizeLinear": 0, "QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3}
CAST_BYTES = 40  # what the operator takes in the file, with the name of its result


def in_four_bits(graph: Graph) -> tuple[str, ...]:
    """Store weights as INT4 where that makes the file smaller, in place.

    Returns:
        sentences for the report.
    """
    readers: dict[str, set[bool]] = {}
    for operator in graph.operators:
        for place, name in enumerate(operator.inputs):
            readers.setdefault(name, set()).add(WEIGHTS.get(operator.kind) == place)
    fitting = [name for name, array in graph.constants.items() if array.dtype == "int8" and array.ndim > 1 and fit(array)]
    chosen = [name for name in fitting if readers.get(name) == {True} and graph.constants[name].size > 2 * CAST_BYTES]
    opened = {name: f"{name}/opened" for name in chosen}
    for operator in graph.operators:
        operator.inputs = [opened.get(name, name) for name in operator.inputs]
    graph.operators[:0] = [Operator("Cast", [name], [opened[name]], {"to": element_type(torch.int8)}) for name in chosen]
    graph.four_bits.update(chosen)
    return said(sum(graph.constants[name].size for name in chosen), len(chosen), 0)
