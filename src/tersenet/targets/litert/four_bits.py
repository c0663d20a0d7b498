"""Weights of at most 4 bits in files of the LiteRT schema: the same integers in half the bytes, for the kernels that take them so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tersenet.capabilities import Capabilities
from tersenet.formats.nibbles import fit
from tersenet.formats.tflite import FOUR_BITS, Graph, Operator
from tersenet.targets.four_bits import said, taken

# Operators with weights -> the kind that the tables speak of.
KINDS: Mapping[str, str] = {"CONV_2D": "conv2d", "DEPTHWISE_CONV_2D": "depthwise_conv2d", "FULLY_CONNECTED": "linear"}
SOURCE, WEIGHT, BIAS = range(3)
# XNNPACK's product multiplies weights of 4 bits by 16, and with them sums and biases, in 32 bits: they must stay below this.
LARGEST_SUM = 2**27
LARGEST_DIFFERENCE = 255  # of a value and its zero point


def in_four_bits(graph: Graph, able: Capabilities, choice: str) -> tuple[Graph, tuple[str, ...]]:
    """The same network, weights stored two a byte where that is wanted.

    Args:
        able: the runtime's table.
        choice: one of `tersenet.targets.four_bits.CHOICES`.

    Returns:
        the graph, and sentences for the report.
    """
    suits: dict[int, bool] = {}
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            if index >= 0 and graph.tensors[index].data is not None:
                suits[index] = suits.get(index, True) and place == WEIGHT and _takes(graph, operator, able, choice)
    narrow = {operator.inputs[WEIGHT] for operator in graph.operators if _is_narrow(graph, operator)}
    chosen = {index for index in narrow if suits.get(index)}
    tensors = tuple(replace(tensor, dtype=FOUR_BITS) if index in chosen else tensor for index, tensor in enumerate(graph.tensors))
    before = sum(math.prod(graph.tensors[index].shape) for index in chosen)
    return replace(graph, tensors=tensors), said(before, len(chosen), len(narrow - chosen))


def _is_narrow(graph: Graph, operator: Operator) -> bool:
    """Whether an operator's weights are integers of 4 bits, though of another type."""
    if operator.code not in KINDS:
        return False
    source, weight = (graph.tensors[operator.inputs[place]] for place in (SOURCE, WEIGHT))
    return source.dtype == weight.dtype == "int8" and weight.data is not None and weight.sparsity is None and fit(weight.data)


def _takes(graph: Graph, operator: Operator, able: Capabilities, choice: str) -> bool:
    """Whether an operator may read its weights two a byte."""
    if not _is_narrow(graph, operator):
        return False
    source, weight = (graph.tensors[operator.inputs[place]] for place in (SOURCE, WEIGHT))
    kind, scales = KINDS[operator.code], 1 if weight.numbers is None else len(weight.numbers.scale)
    rows = math.prod(source.shape) // weight.shape[-1]
    if kind == "linear" and not (weight.shape[-1] % 2 == 0 and _has_room(graph, operator)):
        return False
    return taken(able.kernels[kind].four_bits, choice, rows=rows, scales=scales)


def _has_room(graph: Graph, operator: Operator) -> bool:
    """Whether no sum of products and bias can leave what XNNPACK's product of weights of 4 bits has room for."""
    weight, bias = graph.tensors[operator.inputs[WEIGHT]].data, operator.inputs[BIAS] if len(operator.inputs) > BIAS else -1
    assert weight is not None
    sums = LARGEST_DIFFERENCE * np.abs(weight.astype(np.int64)).sum(1)
    added = graph.tensors[bias].data if bias >= 0 else None
    return bool((sums + (0 if added is None else np.abs(added.astype(np.int64))) < LARGEST_SUM).all())
