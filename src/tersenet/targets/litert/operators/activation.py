"""Operators of one value, element by element: those that the runtime has, and those composed of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import fx

from tersenet.formats.tflite import Numbers
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, constant, shape_of
from tersenet.schemes import Encoding, Scheme
from tersenet.targets.litert.layout import axis_last, identity, stored
from tersenet.targets.litert.lowering import FUSED, Lowering, Stored, same_grid

UNARY = {
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "abs": "ABS",
    "neg": "NEG",
    "exp": "EXP",
    "log": "LOG",
    "sqrt": "SQRT",
    "rsqrt": "RSQRT",
    "square": "SQUARE",
    "sin": "SIN",
    "cos": "COS",
    "floor": "FLOOR",
    "ceil": "CEIL",
    "round": "ROUND",
    "sign": "SIGN",
    "logical_not": "LOGICAL_NOT",
}
# The grid that the kernel of LOGISTIC writes on.
SIGMOID = Encoding(Scheme("int8"), (1 / 256,), (-128,))
SIGMOID_16 = Encoding(Scheme("int16", symmetric=True), (1 / 32768,), (0,))
# All that relu6 can give.
SIX = Encoding(Scheme("int8"), (float(np.float32(6 / 255)),), (-128,))


def unary(low: Lowering, node: fx.Node) -> None:
    """An operator that the runtime has."""
    value = _source(low, node)
    low.result(node, UNARY[kind_of(node)], (value.tensor,), value.order, value.columns)


def _source(low: Lowering, node: fx.Node) -> Stored:
    """The operand; a flattened image that was left as it lies goes through (`define` keeps its columns)."""
    child = node.args[0]
    assert isinstance(child, fx.Node)
    return low.read(node, child, position=0)


def atan(low: Lowering, node: fx.Node) -> None:
    """The angle of (1, x), for which the runtime has an operator."""
    value = _source(low, node)
    shape = low.tensors[value.tensor].shape
    ones = low.emit("BROADCAST_TO", (low.array(np.ones(1), "float32"), low.array(shape, "int32")), shape, "float32")
    low.result(node, "ATAN2", (value.tensor, ones), value.order, value.columns)


def rectifier(low: Lowering, node: fx.Node) -> None:
    """relu and relu6. Integers go through a sum with zero, which clips and is 60 times faster than RELU, which XNNPACK declines.

    The interpreter for microcontrollers has a RELU as good as any, and a RELU6 that takes no other grid for its result.
    """
    value = _source(low, node)
    code, top = ("RELU6", 6.0) if kind_of(node) == "relu6" else ("RELU", math.inf)
    planned = low.plan.values.get(low.result_of(node).name)
    if value.encoding is None or low.unit(node) is None or planned is None or (low.micro and code == "RELU"):
        low.result(node, code, (value.tensor,), value.order, value.columns)
    elif same_grid(value.encoding, planned) and grid_clips(planned, 0.0, top):
        low.define(node, value)  # nothing lies outside
    else:
        zero = _integer(low, 0, value.encoding.scheme.dtype, value.encoding.scale[0])
        options = {"fusedActivationFunction": FUSED[kind_of(node)], "potScaleInt16": False}
        low.result(node, "ADD", (value.tensor, zero), value.order, value.columns, **options)


def hardswish(low: Lowering, node: fx.Node) -> None:
    """x relu6(x + 3) / 6 (Howard et al. 2019, section 5.2), in integers by a sum and two products, 20 times faster than HARD_SWISH here."""
    value = _source(low, node)
    if value.encoding is None or low.unit(node) is None or low.micro:
        low.result(node, "HARD_SWISH", (value.tensor,), value.order, value.columns)
        return
    held = low.tensors[value.tensor]
    inputs = (value.tensor, _integer(low, 127, "int8", 3 / 127))
    gate = low.emit("ADD", inputs, held.shape, held.dtype, SIX, fusedActivationFunction=3, potScaleInt16=False)
    product = low.emit("MUL", (value.tensor, gate), held.shape, held.dtype, _six_times(low, node))
    low.result(node, "MUL", (product, _integer(low, 127, "int8", 1 / 6 / 127)), value.order, value.columns)


def _six_times(low: Lowering, node: fx.Node) -> Encoding:
    """A grid six times as wide as the result's: its integers are the result's already, and a product with 1/6 rounds nothing."""
    planned = low.plan.values[low.result_of(node).name]
    return Encoding(planned.scheme, (6 * planned.scale[0],), planned.zero_point)


def leaky_relu(low: Lowering, node: fx.Node) -> None:
    """x where positive, else slope times x."""
    value = _source(low, node)
    low.result(node, "LEAKY_RELU", (value.tensor,), value.order, value.columns, alpha=float(bind(node)["negative_slope"]))


def prelu(low: Lowering, node: fx.Node) -> None:
    """x where positive, else x times a slope for each channel."""
    arguments = bind(node)
    value = low.read(node, arguments["self"], position=0)
    rank = len(shape_of(node))
    slope = constant(low.module, arguments["weight"])
    slope = slope.reshape(*[1] * min(rank - 1, 1), -1, *[1] * (rank - 2)) if slope.numel() > 1 else slope.reshape([1] * rank)
    encoding = low.plan.values.get(arguments["weight"].name) if low.unit(node) is not None else None
    turned = slope.permute(value.order).contiguous()
    while turned.ndim > rank - 1 and turned.ndim > 1 and turned.shape[0] == 1:
        turned = turned[0]
    held = low.operand(turned, identity(turned.ndim), encoding)
    low.result(node, "PRELU", (value.tensor, held.tensor), value.order)


def gelu(low: Lowering, node: fx.Node) -> None:
    """The Gaussian error linear unit, exact or with tanh."""
    value = _source(low, node)
    low.result(node, "GELU", (value.tensor,), value.order, value.columns, approximate=bind(node)["approximate"] == "tanh")


def silu(low: Lowering, node: fx.Node) -> None:
    """x times sigmoid(x)."""
    value = _source(low, node)
    held = low.tensors[value.tensor]
    grid = None if value.encoding is None else SIGMOID_16 if held.dtype == "int16" else SIGMOID
    gate = low.emit("LOGISTIC", (value.tensor,), held.shape, held.dtype, grid)
    low.result(node, "MUL", (value.tensor, gate), value.order, value.columns)


def hardsigmoid(low: Lowering, node: fx.Node) -> None:
    """relu6(x + 3) / 6 (Howard et al. 2019, section 5.2)."""
    value = _source(low, node)
    held = low.tensors[value.tensor]
    if value.encoding is None:
        shifted = low.emit("ADD", (value.tensor, _number(low, 3.0)), held.shape, "float32", fusedActivationFunction=3)
        low.result(node, "MUL", (shifted, _number(low, 1 / 6)), value.order, value.columns)
        return
    inputs = (value.tensor, _integer(low, 127, "int8", 3 / 127))
    shifted = low.emit("ADD", inputs, held.shape, held.dtype, _six_times(low, node), fusedActivationFunction=3, potScaleInt16=False)
    low.result(node, "MUL", (shifted, _integer(low, 127, "int8", 1 / 6 / 127)), value.order, value.columns)


def _number(low: Lowering, value: float) -> int:
    return low.array([value], "float32")


def _integer(low: Lowering, value: int, dtype: str, scale: float) -> int:
    return low.array([value], dtype, Numbers((float(np.float32(scale)),), (0,)))


def grid_clips(encoding: Encoding, bottom: float, top: float) -> bool:
    """Whether no number of a grid lies outside of limits, so that being on it clips to them."""
    low, high = encoding.range
    return low >= bottom - 1e-6 * encoding.scale[0] and high <= top + 1e-6 * encoding.scale[0]


class Arithmetic:
    """Float operators on tensors of one shape, for what has to be composed."""

    def __init__(self, low: Lowering, node: fx.Node, value: Stored) -> None:
        self.low, self.shape = low, stored(shape_of(node), value.order)

    def __call__(self, code: str, *inputs: int | float, **options: Any) -> int:
        tensors = [self.low.array([value], "float32") if isinstance(value, float) else value for value in inputs]
        return self.low.emit(code, tensors, self.shape, "float32", **options)


def composed(formula: Callable[[Arithmetic, int, fx.Node], int]) -> Callable[[Lowering, fx.Node], None]:
    """A lowering that computes a formula in floats."""

    def lower(low: Lowering, node: fx.Node) -> None:
        value = _source(low, node)
        value = low.convert(value, value.order, None, tuple(shape_of(node)))
        low.define(node, Stored(formula(Arithmetic(low, node, value), value.tensor, node), value.order, None, value.columns))

    return lower


def softplus(do: Arithmetic, x: int, node: fx.Node) -> int:
    """log(1 + exp(b x)) / b as relu(x) + log(1 + exp(-|b x|)) / b, which does not overflow."""
    beta = float(bind(node).get("beta", 1))
    return _softplus(do, x, beta)


def _softplus(do: Arithmetic, x: int, beta: float) -> int:
    scaled = x if beta == 1 else do("MUL", x, beta)
    tail = do("LOG", do("ADD", do("EXP", do("NEG", do("ABS", scaled))), 1.0))
    return do("ADD", do("RELU", x), tail if beta == 1 else do("MUL", tail, 1 / beta))


def mish(do: Arithmetic, x: int, node: fx.Node) -> int:
    """x tanh(softplus(x))."""
    return do("MUL", x, do("TANH", _softplus(do, x, 1.0)))


def elu(do: Arithmetic, x: int, node: fx.Node) -> int:
    """scale (relu(x) + alpha (exp(min(s x, 0)) - 1))."""
    arguments = bind(node)
    return _elu(do, x, float(arguments["alpha"]), float(arguments.get("scale", 1)), float(arguments.get("input_scale", 1)))


def _elu(do: Arithmetic, x: int, alpha: float, scale: float, input_scale: float) -> int:
    if (alpha, input_scale) == (1, 1):
        whole = do("ELU", x)
    else:
        inner = do("MINIMUM", x, 0.0)
        below = do("ELU", inner if input_scale == 1 else do("MUL", inner, input_scale))
        whole = do("ADD", do("RELU", x), do("MUL", below, alpha))
    return whole if scale == 1 else do("MUL", whole, scale)


def selu(do: Arithmetic, x: int, node: fx.Node) -> int:
    """The self-normalizing one (Klambauer et al. 2017, equation 2)."""
    return _elu(do, x, 1.6732632423543772, 1.0507009873554805, 1.0)


def celu(do: Arithmetic, x: int, node: fx.Node) -> int:
    """relu(x) + alpha (exp(min(x / alpha, 0)) - 1)."""
    alpha = float(bind(node)["alpha"])
    return _elu(do, x, alpha, 1.0, 1 / alpha)


def reciprocal(do: Arithmetic, x: int, node: fx.Node) -> int:
    """1 / x."""
    return do("DIV", 1.0, x)


# Abramowitz and Stegun 1964, formula 7.1.26: absolute error below 1.5e-7.
ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)


def erf(do: Arithmetic, x: int, node: fx.Node) -> int:
    """sign(x) (1 - (a1 t + ... + a5 t^5) exp(-x^2)) with t = 1 / (1 + 0.3275911 |x|)."""
    t = do("DIV", 1.0, do("ADD", do("MUL", do("ABS", x), 0.3275911), 1.0))
    polynomial = do("MUL", t, ERF[4])
    for factor in reversed(ERF[:4]):
        polynomial = do("MUL", do("ADD", polynomial, factor), t)
    tail = do("MUL", polynomial, do("EXP", do("NEG", do("MUL", x, x))))
    return do("MUL", do("SIGN", x), do("SUB", 1.0, tail))


def softmax(low: Lowering, node: fx.Node) -> None:
    """softmax and log_softmax, over the last stored axis."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.values[source]
    axis = int(arguments["dim"]) % len(shape_of(source))
    order = value.order if value.order[-1] == axis else axis_last(value.order, axis)
    value = low.read(node, source, order, 0)
    if kind_of(node) == "log_softmax":
        low.result(node, "LOG_SOFTMAX", (value.tensor,), order)
    else:
        low.result(node, "SOFTMAX", (value.tensor,), order, beta=1.0)


def elu_kernel(low: Lowering, node: fx.Node) -> None:
    """ELU in integers where the plan asks for it and the kernel has it; every other kind in floats."""
    arguments = bind(node)
    if low.unit(node) is not None and (arguments["alpha"], arguments["scale"], arguments["input_scale"]) == (1, 1, 1):
        value = _source(low, node)
        low.result(node, "ELU", (value.tensor,), value.order, value.columns)
    else:
        composed(elu)(low, node)
