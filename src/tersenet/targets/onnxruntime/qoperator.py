"""QOperator form: operators on integers in place of float ones between conversions, the form that onnxruntime itself runs.

Each operator whose operands are all dequantized and whose result is quantized becomes the integer operator that onnxruntime
would fuse them into. The numbers are the same, so the results are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tersenet.formats.onnx import MICROSOFT, Graph, Operator

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


@dataclass(frozen=True)
class Operand:
    """A quantized tensor by names: its integers, scale and zero point ("" where that is left out)."""

    integers: str
    scale: str
    zero_point: str

    @property
    def triple(self) -> tuple[str, str, str]:
        return self.integers, self.scale, self.zero_point

    @property
    def numbers(self) -> tuple[str, str]:
        return self.scale, self.zero_point


@dataclass
class Pattern:
    """One float operator with its conversions: what a rule rewrites."""

    graph: Graph
    operator: Operator
    operands: list[Operand | None]  # None for an input that is no dequantized tensor
    result: Operand

    def quantized(self, count: int) -> list[Operand]:
        """The first operands; empty where one of them is not quantized."""
        found = [operand for operand in self.operands[:count] if operand is not None]
        return found if len(found) == count else []

    def weight_zero(self, weight: Operand) -> str:
        """A weight's zero point, which integer operators ask for: a 0 where it was left out."""
        if weight.zero_point:
            return weight.zero_point
        dtype = self.graph.constants[weight.integers].dtype
        name = f"zero/{dtype}"
        self.graph.constants.setdefault(name, np.zeros((), dtype))
        return name


Rewritten = tuple[str, str, Sequence[str]]  # kind, domain, inputs
Rule = Callable[[Pattern], Rewritten | None]


def _convolution(pattern: Pattern) -> Rewritten | None:
    operands = pattern.quantized(len(pattern.operands))
    if not operands:
        return None
    source, weight, *bias = operands
    held = (weight.integers, weight.scale, pattern.weight_zero(weight))
    return "QLinearConv", "", (*source.triple, *held, *pattern.result.numbers, *(operand.integers for operand in bias))


def _gemm(pattern: Pattern) -> Rewritten | None:
    operands = pattern.quantized(len(pattern.operands))
    if not operands:
        return None
    source, weight, *bias = operands
    added = bias[0].integers if bias else ""
    return "QGemm", MICROSOFT, (*source.triple, weight.integers, weight.scale, pattern.weight_zero(weight), added, *pattern.result.numbers)


def _matmul(pattern: Pattern) -> Rewritten | None:
    operands = pattern.quantized(2)
    if not operands:
        return None
    first, second = operands
    zero = second.zero_point or pattern.weight_zero(second)
    return "QLinearMatMul", "", (*first.triple, second.integers, second.scale, zero, *pattern.result.numbers)


def _many(kind: str) -> Rule:
    """Operators that list operands, then the result's numbers."""

    def rule(pattern: Pattern) -> Rewritten | None:
        operands = pattern.quantized(len(pattern.operands))
        return (kind, MICROSOFT, [*(name for operand in operands for name in operand.triple), *pattern.result.numbers]) if operands else None

    return rule


def _concat(pattern: Pattern) -> Rewritten | None:
    operands = pattern.quantized(len(pattern.operands))
    if not operands:
        return None
    return "QLinearConcat", MICROSOFT, [*pattern.result.numbers, *(name for operand in operands for name in operand.triple)]


def _where(pattern: Pattern) -> Rewritten | None:
    _, left, right = pattern.operands
    if left is None or right is None:
        return None
    return "QLinearWhere", MICROSOFT, (pattern.operator.inputs[0], *left.triple, *right.triple, *pattern.result.numbers)


def _movement(pattern: Pattern) -> Rewritten | None:
    """On the integers themselves, where numbers do not change."""
    source = pattern.operands[0]
    if source is None or source.numbers != pattern.result.numbers:
        return None
    return pattern.operator.kind, "", (source.integers, *pattern.operator.inputs[1:])


RULES: Mapping[str, Rule] = {
    "Conv": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Concat": _concat,
    "Where": _where,
    **{kind: _many(f"QLinear{kind}") for kind in ("Add", "Mul", "Sigmoid", "LeakyRelu", "Softmax", "AveragePool", "GlobalAveragePool")},
    **dict.fromkeys(
        ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Gather", "GatherElements", "Slice", "Tile", "DepthToSpace", "Resize"), _movement
    ),
    **dict.fromkeys(("MaxPool", "ReduceMax", "ReduceMin"), _movement),
}


def to_qoperators(graph: Graph) -> None:
    """Rewrite every operator that has a rule, in place; conversions that nobody reads any more are left to `compact`."""
    made = {name: operator for operator in graph.operators for name in operator.outputs}
    readers = Counter(name for operator in graph.operators for name in operator.inputs)
    readers.update(value.name for value in graph.outputs)
    quantized = {operator.inputs[0]: operator for operator in graph.operators if operator.kind == QUANTIZE}
    gone: set[int] = set()
    for operator in graph.operators:
        rule, conversion = RULES.get(operator.kind), quantized.get(operator.outputs[0])
        if rule is None or conversion is None or readers[operator.outputs[0]] != 1:
            continue
        pattern = Pattern(graph, operator, [_operand(made.get(name)) for name in operator.inputs], Operand("", *conversion.inputs[1:3]))
        rewritten = rule(pattern)
        if rewritten is not None:
            operator.kind, operator.domain, operator.inputs = rewritten[0], rewritten[1], list(rewritten[2])
            operator.outputs = list(conversion.outputs)
            if operator.kind == "QLinearSoftmax":
                operator.attributes = {"axis": -1, **operator.attributes, "opset": 13}
            gone.add(id(conversion))
    graph.operators = [operator for operator in graph.operators if id(operator) not in gone]


def _operand(operator: Operator | None) -> Operand | None:
    if operator is None or operator.kind != DEQUANTIZE:
        return None
    return Operand(*(*operator.inputs, "")[:3])
