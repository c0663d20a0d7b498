"""The integer arithmetic of the reference kernels of TensorFlow Lite, step for step, which the interpreter for microcontrollers runs.

A real multiplier is held as a significand of 31 bits and an exponent, and a product with it is rounded *twice*: once after the multiplication,
to a whole number, and once more where its exponent shifts it to the right, there with halves away from zero (Jacob et al. 2018, section 2.2;
``MultiplyByQuantizedMultiplier`` in TensorFlow Lite, ``SaturatingRoundingDoublingHighMul`` and ``RoundingDivideByPOT`` in gemmlowp). One
rounding in floats differs from it in one value of a thousand, which a deep network makes many of.

Operators here take and return values of grids, as floats. Within, they count in *steps* from zero, so that zero points have no part in it.
Results are not clamped: the grid that they go on does that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tersenet.numerics.affine import on_grid

# A sum of two values is computed on a grid finer by so many bits, by the bits of the values.
SUM_BITS = {8: 20, 16: 15}
# The grid that the kernel of a sigmoid writes on.
SIGMOID = (1 / 256, -128, -128, 127)
# Largest significands of 31 and of 15 bits.
WHOLE, SHORT = 1 << 31, 0x7FFF


class Multiplier(NamedTuple):
    """``significand * 2 ** (exponent - 31)``, with significands from 2^30 to 2^31 (0 for what is too small)."""

    significand: Tensor
    exponent: Tensor


def multiplier(real: Tensor | float) -> Multiplier:
    """A positive real number, or one for each channel, in the form that integer kernels multiply by.

    >>> [int(part) for part in multiplier(0.75)]
    [1610612736, 0]
    """
    mantissa, exponent = torch.frexp(torch.as_tensor(real, dtype=torch.float64))
    significand = (mantissa * WHOLE + 0.5).floor().to(torch.int64)
    full = significand == WHOLE
    significand, exponent = torch.where(full, significand >> 1, significand), exponent.to(torch.int64) + full
    small = exponent < -31
    return Multiplier(significand.masked_fill(small, 0), exponent.masked_fill(small, 0))


def steps(tensor: Tensor, scale: float) -> Tensor:
    """Values of a grid as whole numbers of its steps, int64."""
    return torch.div(tensor, scale).round_().to(torch.int64)


def shifted_right(integers: Tensor, places: Tensor | int) -> Tensor:
    """Division by a power of two, halves away from zero; writes into `integers`.

    >>> shifted_right(torch.tensor([-6, -5, 5, 6]), 2).tolist()
    [-2, -1, 1, 2]
    """
    places = torch.as_tensor(places)
    half = torch.ones_like(places).bitwise_left_shift(places).bitwise_right_shift(1)
    below = integers.bitwise_right_shift(63)
    if not bool(places.all()):
        below.mul_(places > 0)
    return integers.add_(half).add_(below).bitwise_right_shift_(places)


def high_product(integers: Tensor, factor: Tensor, bits: int = 31) -> Tensor:
    """The product divided by ``2 ** bits``, to the nearest whole number, halves up."""
    return (integers * factor).add_(1 << (bits - 1)).bitwise_right_shift_(bits)


def rescaled(integers: Tensor, by: Multiplier) -> Tensor:
    """The product of int32 accumulators, held in int64, and a multiplier, rounded twice.

    >>> rescaled(torch.tensor([-3, 3, 6]), multiplier(0.25)).tolist()
    [-1, 1, 2]
    """
    if bool((by.exponent > 0).any()):
        integers = integers << by.exponent.clamp(min=0)
    return shifted_right(high_product(integers, by.significand), (-by.exponent).clamp(min=0))


def rescaled_wide(integers: Tensor, by: Multiplier) -> Tensor:
    """The same for accumulators of 64 bits, beside activations of 16: a significand of 15 bits, one rounding, halves up."""
    short = ((by.significand + (1 << 15)) >> 16).clamp(max=SHORT)
    places = 15 - by.exponent
    return (integers * short).add_(torch.ones_like(places) << (places - 1)).bitwise_right_shift_(places)


def reals(integers: Tensor, scale: float) -> Tensor:
    """Steps as values of a grid, float32."""
    return integers.to(torch.float32).mul_(scale)


def product_of_weights(
    operator: Callable[..., Tensor],
    inputs: tuple[Tensor, Tensor, Tensor | None],
    rest: Sequence[Any],
    weight_scale: Tensor,
    scales: Sequence[float],
    bits: int,
) -> Tensor:
    """A convolution or a linear layer.

    Args:
        operator: takes input, weight, bias and `rest`.
        inputs: values of the input's grid; integers of the weight, in the type of floats that holds sums of their products exactly;
            integers of the bias (channels,), int64, or None.
        rest: the operator's other arguments.
        weight_scale: one, or one for each channel of the result.
        scales: of input and result.
        bits: of the activations, 8 or 16.
    """
    tensor, weight, bias = inputs
    whole = torch.div(tensor, scales[0]).round_().to(weight.dtype)
    sums = operator(whole, weight, None, *rest).to(torch.int64)
    trailing = [1] * (0 if operator is torch.ops.aten.linear.default else sums.dim() - 2)
    if bias is not None:
        sums.add_(bias.reshape(-1, *trailing))
    by = multiplier(weight_scale.to(torch.float64) * scales[0] / scales[1])
    by = Multiplier(*(part.reshape(-1, *trailing) for part in by))
    return reals((rescaled if bits == 8 else rescaled_wide)(sums, by), scales[1])


def matrix_product(operator: Callable[..., Tensor], left: Tensor, right: Tensor, scales: Sequence[float]) -> Tensor:
    """A product of two activations; scales of both and of the result. Whole sums fit float64."""
    sums = operator(*(torch.div(tensor, scale).round_().double() for tensor, scale in zip((left, right), scales, strict=False)))
    return reals(rescaled(sums.to(torch.int64), multiplier(scales[0] * scales[1] / scales[2])), scales[2])


def total(left: Tensor, right: Tensor | float, scales: Sequence[float], bits: int, minus: bool = False) -> Tensor:
    """A sum or a difference; scales of both operands and of the result."""
    finer = SUM_BITS[bits]
    twice = 2 * max(scales[0], scales[1])
    operands = [torch.as_tensor(value) for value in (left, right)]
    first, second = (rescaled(steps(value, scale) << finer, multiplier(scale / twice)) for value, scale in zip(operands, scales, strict=False))
    raw = first - second if minus else first + second
    return reals(rescaled(raw, multiplier(twice / ((1 << finer) * scales[2]))), scales[2])


def product(left: Tensor, right: Tensor, scales: Sequence[float]) -> Tensor:
    """A product, element by element; scales of both operands and of the result."""
    return reals(rescaled(steps(left, scales[0]) * steps(right, scales[1]), multiplier(scales[0] * scales[1] / scales[2])), scales[2])


def requantized(tensor: Tensor, scales: Sequence[float], single: bool = False) -> Tensor:
    """Values of one grid on another.

    Args:
        scales: of the two grids.
        single: the kernel computes the ratio of scales in float32.
    """
    ratio = np.float32(scales[0]) / np.float32(scales[1]) if single else scales[0] / scales[1]
    return reals(rescaled(steps(tensor, scales[0]), multiplier(float(ratio))), scales[1])


def mean(tensor: Tensor, axes: Sequence[int], keep: bool, scales: Sequence[float]) -> Tensor:
    """The mean over axes: their sum times a multiplier that has the division in it, cut off."""
    sums = torch.div(tensor, scales[0]).round_().double().sum(tuple(axes), keepdim=keep).to(torch.int64)
    count = tensor.numel() // max(sums.numel(), 1)
    by = multiplier(scales[0] / scales[1])
    places = min(count.bit_length() - 1, 32, 31 + int(by.exponent))
    return reals(rescaled(sums, Multiplier((by.significand << places) // count, by.exponent - places)), scales[1])


def leaky_relu(tensor: Tensor, slope: float, scales: Sequence[float]) -> Tensor:
    """x where positive, else slope times x."""
    first, second = (np.float32(scale) for scale in scales)
    whole = steps(tensor, scales[0])
    below = rescaled(whole, multiplier(abs(float(first * np.float32(slope) / second))))
    return reals(torch.where(whole >= 0, rescaled(whole, multiplier(float(first / second))), -below if slope < 0 else below), scales[1])


def prelu(tensor: Tensor, slope: Tensor, scales: Sequence[float]) -> Tensor:
    """x where positive, else x times a slope for each channel; scales of input, slope and result."""
    factors = steps(slope, scales[1]).reshape(-1, *[1] * max(tensor.dim() - 2, 0))
    whole = steps(tensor, scales[0])
    below = rescaled(whole * factors, multiplier(scales[0] * scales[1] / scales[2]))
    return reals(torch.where(whole >= 0, rescaled(whole, multiplier(scales[0] / scales[2])), below), scales[2])


def silu(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """x times sigmoid(x), which has 8 bits of its own."""
    return product(tensor, on_grid(torch.sigmoid(tensor), *SIGMOID), (scales[0], SIGMOID[0], scales[1]))


def hardsigmoid(tensor: Tensor, scales: Sequence[float], zero_point: int) -> Tensor:
    """relu6(x + 3) / 6 as a sum and a product with constants of 7 bits; the sum's grid is six times as wide as the result's."""
    three, sixth, wide = float(np.float32(3 / 127)), float(np.float32(1 / 6 / 127)), float(np.float32(6 * scales[1]))
    raised = on_grid(total(tensor, 127 * three, (scales[0], three, wide), 8).clamp(0, 6), wide, zero_point, -128, 127)
    return product(raised, torch.tensor(127 * sixth), (wide, sixth, scales[1]))


def hardswish(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """x relu6(x + 3) / 6 in 16 bits (TensorFlow Lite's ``reference_ops::HardSwish``)."""
    finer = np.float32(1 / 128) * np.float32(scales[0])
    output, inside = (multiplier(float(finer / scale)) for scale in (np.float32(scales[1]), np.float32(3) / np.float32(32768)))
    value = steps(tensor, scales[0]) << 7
    factors = [((by.significand + (1 << 15)) >> 16).clamp(max=SHORT) for by in (output, inside)]
    whole = high_product(value, factors[0], 15)
    places = int(inside.exponent)
    gate = high_product(_short(value << max(places - 1, 0)), factors[1], 15)
    gate = _short(gate << 1) if places > 0 else shifted_right(gate, -places)
    gate = (gate + (1 << 15)) >> 1
    before = torch.div(gate * whole, 1 << 15, rounding_mode="trunc")
    return reals(shifted_right(before, -output.exponent), scales[1])


def resize_bilinear(tensor: Tensor, corners: bool, sizes: Sequence[int], scale: float, zero_point: int) -> Tensor:
    """Interpolation between pixels with weights of 10 bits, halves away from zero of the integers as they are stored.

    Args:
        tensor: (n, channels, height, width).
        corners: as torch's ``align_corners``; where not, centers of pixels are matched.
        sizes: height and width of the result.
    """
    down, across = (_weights_between(count, int(size), corners) for count, size in zip(tensor.shape[2:], sizes, strict=True))
    stored = torch.div(tensor, scale).round_().double() + zero_point
    sums = (down @ stored @ across.T).to(torch.int64)
    return reals(shifted_right(sums, 20) - zero_point, scale)


def _weights_between(count: int, size: int, corners: bool) -> Tensor:
    """What each of `size` results takes of `count` pixels, in 1024ths, float64."""
    one = 1 << 10
    first, last = (count - 1, size - 1) if corners and size > 1 else (count, size)
    stride = (one * first + last // 2) // last
    places = torch.arange(size) * stride
    if not corners:
        places += stride // 2 - one // 2
    below = places.clamp(min=0) // one
    above = ((places + one - 1) // one).clamp(min=0, max=count - 1)
    part = places - one * below
    weights = torch.zeros(size, count, dtype=torch.float64)
    rows = torch.arange(size)
    weights.index_put_((rows, below), (one - part).double(), accumulate=True)
    return weights.index_put_((rows, above), part.double(), accumulate=True)


def _short(integers: Tensor) -> Tensor:
    return integers.clamp_(-SHORT - 1, SHORT)
