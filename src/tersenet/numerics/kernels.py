"""What the 8-bit kernels of XNNPACK and of onnxruntime's MLAS compute where it is not one rounding of what reals would give.

Found in their sources (XNNPACK ``params-init.c``, ``qs8-vadd``, ``qs8-vlrelu``, ``qs8-vcvt``, ``s8-ibilinear``; MLAS ``qladd.cpp``) and by
trying all pairs of integers in the runtimes (`tests/parity/test_arithmetic.py`). A sum is off in a few of 65,536 pairs, a leaky relu in one value
of ten; each is one step, and a deep network with long tails makes another class of some of them.

Operators here take and return values of grids, as floats; within, they count in steps from zero. Results are not clamped: the grid that they go on
does that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tersenet.numerics.affine import on_grid
from tersenet.numerics.fixed_point import SIGMOID, reals, steps

SINGLE = np.float32
# Significant bits of the larger factor of a sum in XNNPACK; of the factor of a conversion behind the point; of the weights between two pixels.
SUM_BITS, CONVERSION_BITS, PIXEL_BITS = 20, 8, 11
# Constants that LiteRT's files hold for relu6(x + 3) / 6, and the grid of its sum.
THREE, SIX = float(SINGLE(3 / 127)), float(SINGLE(6 / 255))
# onnxruntime keeps activations in uint8.
UNSIGNED = 128


def sum_in_fixed_point(left: Tensor, right: Tensor | float, scales: Sequence[float], minus: bool = False) -> Tensor:
    """XNNPACK's sum or difference: both factors rounded to 2^-shift, where the larger has 21 bits; halves up.

    Args:
        left, right: values of grids.
        scales: of both and of the result.
        minus: the second is taken off.

    >>> sum_in_fixed_point(torch.tensor([1.0]), torch.tensor([0.25]), (0.5, 0.25, 0.5)).tolist()
    [1.5]
    """
    ratios = [SINGLE(scale) / SINGLE(scales[2]) for scale in scales[:2]]
    places = SUM_BITS - (math.frexp(max(ratios))[1] - 1)
    first, second = (int(np.rint(np.float64(ratio) * 2.0**places)) for ratio in ratios)
    total = steps(left, scales[0]) * first + steps(torch.as_tensor(right), scales[1]) * (-second if minus else second)
    return reals(total.add_(1 << (places - 1)).bitwise_right_shift_(places), scales[2])


def sum_of_fused_products(left: Tensor, right: Tensor, scales: Sequence[float], zero_points: Sequence[int]) -> Tensor:
    """MLAS's sum on x86: two fused products and sums in float32 over the integers as stored, the zero points' part made before.

    Args:
        left, right: values of grids.
        scales, zero_points: of both and of the result, on the int8 grid.
    """
    first, second = (SINGLE(scale) / SINGLE(scales[2]) for scale in scales[:2])
    stored = [zero + UNSIGNED for zero in zero_points]
    of_zeros = SINGLE(np.float64(first) * stored[0] + np.float64(SINGLE(second * SINGLE(stored[1]))))
    start = float(SINGLE(stored[2]) - of_zeros)
    # float64 holds the product of a float32 and an integer of 8 bits; its sum is rounded to float32 as a fused one is
    total = (steps(right, scales[1]) + stored[1]).double().mul_(float(second)).add_(start).float()
    total = (steps(left, scales[0]) + stored[0]).double().mul_(float(first)).add(total.double()).float()
    return total.round_().sub_(stored[2]).mul_(scales[2])


def quantized(tensor: Tensor, scale: float, zero_point: int, lowest: int, highest: int) -> Tensor:
    """XNNPACK's way from floats onto a grid: times the scale's reciprocal in float32, half to even.

    Pixels are whole numbers, so that many lie halfway between two steps, where this and a division part.
    """
    reciprocal = float(SINGLE(1) / SINGLE(scale))
    return torch.mul(tensor, reciprocal).round_().clamp_(lowest - zero_point, highest - zero_point).mul_(scale)


def converted(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """XNNPACK's way from one grid to another: a factor of 8 bits behind the point, halves up."""
    factor = int(np.rint(SINGLE(1 << CONVERSION_BITS) * (SINGLE(scales[0]) / SINGLE(scales[1]))))
    return reals(_shifted(steps(tensor, scales[0]) * factor), scales[1])


def leaky_relu(tensor: Tensor, slope: float, scales: Sequence[float]) -> Tensor:
    """XNNPACK's leaky relu: a conversion with a factor for each sign."""
    ratio, one = SINGLE(scales[0]) / SINGLE(scales[1]), SINGLE(1 << CONVERSION_BITS)
    above, below = (int(np.rint(one * factor)) for factor in (ratio, SINGLE(ratio * SINGLE(slope))))
    whole = steps(tensor, scales[0])
    return reals(_shifted(torch.where(whole >= 0, whole * above, whole * below)), scales[1])


def silu(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """x times a sigmoid that has 8 bits of its own."""
    return tensor * on_grid(torch.sigmoid(tensor), *SIGMOID)


def hardswish(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """x relu6(x + 3) / 6 as LiteRT's files have it: the sum on a grid of its own, a product with it."""
    raised = sum_in_fixed_point(tensor, 127 * THREE, (scales[0], THREE, SIX)).clamp(0, 6)
    return tensor * on_grid(raised, SIX, -128, -128, 127) / 6


def hardsigmoid(tensor: Tensor, scales: Sequence[float]) -> Tensor:
    """relu6(x + 3) / 6 as LiteRT's files have it: the sum's grid is six times as wide as the result's."""
    return sum_in_fixed_point(tensor, 127 * THREE, (scales[0], THREE, float(SINGLE(6 * scales[1])))).clamp(0, 6) / 6


def resize_bilinear(tensor: Tensor, corners: bool, sizes: Sequence[int], scale: float) -> Tensor:
    """XNNPACK's interpolation: weights of 11 bits between two pixels, along rows and then columns, halves up.

    Args:
        tensor: (n, channels, height, width), values of the grid.
        corners: as torch's ``align_corners``; where not, centers of pixels are matched.
        sizes: height and width of the result.
        scale: of the grid.
    """
    whole = steps(tensor, scale)
    (top, bottom, down), (first, last, across) = (_between(count, int(size), corners) for count, size in zip(tensor.shape[2:], sizes, strict=True))
    rows = [whole[:, :, row] for row in (top, bottom)]
    upper, lower = ((row[..., first] << PIXEL_BITS) + (row[..., last] - row[..., first]) * across for row in rows)
    total = (upper << PIXEL_BITS) + (lower - upper) * down.reshape(-1, 1)
    return reals(total.add_(1 << (2 * PIXEL_BITS - 1)).bitwise_right_shift_(2 * PIXEL_BITS), scale)


def mean_of_sums(tensor: Tensor, axes: Sequence[int], keep: bool, scales: Sequence[float], zero_point: int = 0) -> Tensor:
    """A mean over whole axes: integers are added up, and their sum is multiplied once in float32, half to even.

    Args:
        tensor: values of a grid.
        axes: that are averaged.
        keep: they stay, with size 1.
        scales: of the input and of the result.
        zero_point: of the result, on int8, where it is added before rounding (XNNPACK), else 0.
    """
    sums = torch.div(tensor, scales[0]).round_().double().sum(tuple(axes), keepdim=keep).float()
    factor = SINGLE(scales[0]) / SINGLE(scales[1]) / SINGLE(tensor.numel() // max(sums.numel(), 1))
    return sums.mul_(float(factor)).add_(zero_point).round_().sub_(zero_point).mul_(scales[1])


def mean_of_stored(pool: Callable[..., Tensor], tensor: Tensor, rest: Sequence[Any], scale: float, zero_point: int) -> Tensor:
    """onnxruntime's average pooling: in float32, the zero point added before it rounds to even.

    Args:
        pool: takes the tensor and `rest`.
        tensor: values of the grid that the result is on, too.
        rest: the operator's other arguments.
        scale, zero_point: of the grid, zero point on int8.
    """
    stored = zero_point + UNSIGNED
    return torch.div(pool(tensor, *rest), scale).add_(stored).round_().sub_(stored).mul_(scale)


def _shifted(integers: Tensor) -> Tensor:
    return integers.add_(1 << (CONVERSION_BITS - 1)).bitwise_right_shift_(CONVERSION_BITS)


def _between(count: int, size: int, corners: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Of each of `size` results the two of `count` pixels that it lies between, and its distance from the first in 2048ths."""
    aligned = corners and size > 1
    ratio = SINGLE(count - 1) / SINGLE(size - 1) if aligned else SINGLE(count) / SINGLE(size)
    offset = SINGLE(0) if aligned else SINGLE(0.5) * ratio - SINGLE(0.5)
    places = np.clip(np.arange(size, dtype=SINGLE) * ratio + offset, SINGLE(0), SINGLE(count - 1))
    first = places.astype(np.int64)
    weights = np.rint((places - first.astype(SINGLE)) * SINGLE(1 << PIXEL_BITS)).astype(np.int64)
    return torch.from_numpy(first), torch.from_numpy(np.minimum(first + 1, count - 1)), torch.from_numpy(weights)
