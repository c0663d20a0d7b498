"""Affine quantization: a range becomes an encoding, real numbers become integers and come back.

With scale ``s`` and zero point ``z``, ``q = clamp(round(r / s) + z, lowest, highest)`` and ``r' = s * (q - z)``
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
equation 1). Rounding is half to even, as `torch.round` and as the rounding mode of processors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tersenet.errors import DataError, RecipeError
from tersenet.schemes import Encoding, Scheme

STORAGE = {
    **{f"int{bits}": torch.int8 for bits in range(2, 9)},
    "uint8": torch.uint8,
    "int16": torch.int16,
    "int32": torch.int32,
}

# The product of two such scales is still a normal float32; a range as small as this is nothing but rounding noise.
SMALLEST_SCALE = 2.0**-50
# Half of int32 for the bias leaves the other half for the products that are added to it.
LARGEST_BIAS = float(2**30)


def middle(scheme: Scheme) -> int:
    """The zero point of a symmetric grid: 0, or 128 for uint8."""
    return 0 if scheme.signed else 1 << (scheme.bits - 1)


def power_of_two(scale: Tensor) -> Tensor:
    """The smallest powers of two that are not smaller than ``scale`` (so that no range shrinks).

    >>> power_of_two(torch.tensor([0.25, 0.3])).tolist()
    [0.25, 0.5]
    """
    mantissa, exponent = torch.frexp(scale)
    return torch.ldexp(torch.ones_like(scale), torch.where(mantissa == 0.5, exponent - 1, exponent))


def encode(low: Tensor | float, high: Tensor | float, scheme: Scheme, axis: int | None = None, role: str = "activation") -> Encoding:
    """The encoding whose grid spans a range.

    The range is first widened to contain 0, which the grid then represents exactly. Grids of 16 bits and more are always
    symmetric, as integer kernels demand; the encoding that is returned says so. A range of no width takes the largest scale
    among its neighbours (1 where there is none): all its values are 0, on any grid.

    Args:
        low, high: the ends, scalars or one of each for every scale (per group: flattened, groups of one index side by side).
        scheme: the grid; its granularity must fit the number of ranges.
        axis: the axis that scales run along; None for one scale.
        role: what the tensor is (`Encoding.role`).

    Raises:
        DataError: an end is not finite, or low > high.

    >>> encode(0.0, 2.55, Scheme("int8")).zero_point
    (-128,)
    """
    low = torch.as_tensor(low, dtype=torch.float64).detach().reshape(-1).cpu()
    high = torch.as_tensor(high, dtype=torch.float64).detach().reshape(-1).cpu()
    if not (bool(torch.isfinite(low).all()) and bool(torch.isfinite(high).all())):
        raise DataError("a range must be finite; the tensor holds NaN or infinity, look at the data or at the layer before it.")
    if bool((low > high).any()):
        raise DataError(f"a range must not end before it starts, got {low.tolist()} to {high.tolist()}.")
    if scheme.bits >= 16 and not scheme.symmetric:
        scheme = replace(scheme, symmetric=True)
    low, high = low.clamp(max=0), high.clamp(min=0)
    if scheme.symmetric:
        step = torch.maximum(-low / (middle(scheme) - scheme.lowest), high / (scheme.highest - middle(scheme)))
    else:
        step = (high - low) / (scheme.highest - scheme.lowest)
    scale = float32_scale(step, scheme)
    if scheme.symmetric:
        zero_point = torch.full_like(scale, middle(scheme))
    else:
        zero_point = torch.round(scheme.lowest - low / scale).clamp(scheme.lowest, scheme.highest)
    return Encoding(scheme, tuple(scale.tolist()), tuple(int(zero) for zero in zero_point.tolist()), axis, role)


def float32_scale(step: Tensor, scheme: Scheme) -> Tensor:
    """Steps (float64, not negative) as scales that a kernel can hold: float32-representable, positive, powers of two where asked."""
    largest = float(step.max())
    step = torch.where(step > 0, step, largest if largest > 0 else 1.0).clamp(min=SMALLEST_SCALE)
    scale = power_of_two(step) if scheme.power_of_two else step
    scale = scale.to(torch.float32).to(torch.float64)
    if not bool(torch.isfinite(scale).all()):
        raise DataError("a range must fit float32; the tensor's values are too large to quantize.")
    return scale


def aligned(encoding: Encoding, tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Scales and zero points, on the tensor's device, in a shape that broadcasts against it (one scale: no axes).

    Per group, the tensor must be `grouped` already.
    """
    scale = torch.tensor(encoding.scale, dtype=dtype, device=tensor.device)
    zero_point = torch.tensor(encoding.zero_point, dtype=dtype, device=tensor.device)
    if encoding.axis is None:
        return scale.reshape(()), zero_point.reshape(())
    if encoding.scheme.granularity == "per-group":
        return scale.reshape(tensor.shape[0], -1, 1), zero_point.reshape(tensor.shape[0], -1, 1)
    size = tensor.shape[encoding.axis]
    if len(encoding.scale) != size:
        raise RecipeError(f"an encoding along axis {encoding.axis} needs {size} scales for shape {tuple(tensor.shape)}, got {len(encoding.scale)}.")
    shape = [1] * tensor.dim()
    shape[encoding.axis] = size
    return scale.reshape(shape), zero_point.reshape(shape)


def grouped(tensor: Tensor, axis: int, group_size: int) -> Tensor:
    """The tensor as (index of axis, group, element); elements of one index in their order of the remaining axes."""
    rows = tensor.movedim(axis, 0).flatten(1)
    if rows.shape[1] % group_size:
        raise RecipeError(f"group_size must divide the {rows.shape[1]} elements behind axis {axis} of shape {tuple(tensor.shape)}, got {group_size}.")
    return rows.reshape(rows.shape[0], -1, group_size)


def ungrouped(groups: Tensor, shape: torch.Size, axis: int) -> Tensor:
    """The inverse of `grouped`."""
    rest = [size for index, size in enumerate(shape) if index != axis % len(shape)]
    return groups.reshape(groups.shape[0], *rest).movedim(0, axis)


def quantize(tensor: Tensor, encoding: Encoding) -> Tensor:
    """The integers that represent a tensor, of its shape, in the `STORAGE` type (fewer bits than 8 are kept in int8).

    >>> quantize(torch.tensor([0.5, 1.5, 200.0]), Encoding(Scheme("int8"), (1.0,), (0,))).tolist()
    [0, 2, 127]
    """
    return _in_groups(_integers, tensor.detach(), encoding).to(STORAGE[encoding.scheme.dtype])


def dequantize(integers: Tensor, encoding: Encoding) -> Tensor:
    """The real numbers, float32, that integers stand for."""
    return _in_groups(_reals, integers, encoding)


def fake_quantize(tensor: Tensor, encoding: Encoding) -> Tensor:
    """``dequantize(quantize(tensor))``, with gradients straight through inside the range and none outside of it.

    torch's own `fake_quantize` operators are not used: they multiply by 1 / scale, which rounds otherwise than a division near
    half a step, and they are slower, for they always make the gradient's mask.
    """
    return _in_groups(_rounded, tensor, encoding)


def on_grid(tensor: Tensor, scale: float, zero_point: int, lowest: int, highest: int) -> Tensor:
    """`fake_quantize` for one scale, with plain numbers, as a graph holds them; no gradient.

    >>> on_grid(torch.tensor([0.26, 9.0]), 0.5, 0, -128, 4).tolist()
    [0.5, 2.0]
    """
    return torch.div(tensor, scale).round_().clamp_(lowest - zero_point, highest - zero_point).mul_(scale)


def _in_groups(function: Callable[[Tensor, Encoding], Tensor], tensor: Tensor, encoding: Encoding) -> Tensor:
    if encoding.scheme.granularity != "per-group":
        return function(tensor, encoding)
    if encoding.axis is None:
        raise RecipeError("an encoding per group must name its axis.")
    groups = grouped(tensor, encoding.axis, encoding.scheme.group_size)
    if groups.shape[0] * groups.shape[1] != len(encoding.scale):
        raise RecipeError(f"shape {tuple(tensor.shape)} has {groups.shape[0] * groups.shape[1]} groups, the encoding {len(encoding.scale)} scales.")
    return ungrouped(function(groups, encoding), tensor.shape, encoding.axis)


def _working_type(encoding: Encoding) -> torch.dtype:
    """float32 holds all integers of 16 bits; those of 32 need float64."""
    return torch.float64 if encoding.scheme.bits > 16 else torch.float32


def _integers(tensor: Tensor, encoding: Encoding) -> Tensor:
    """The clamped integers, still as floats. New memory: the caller may write into it."""
    scheme, dtype = encoding.scheme, _working_type(encoding)
    scale, zero_point = aligned(encoding, tensor, dtype)
    steps = torch.div(tensor.to(dtype), scale).round_()
    if any(encoding.zero_point):
        steps.add_(zero_point)
    return steps.clamp_(scheme.lowest, scheme.highest)


def _reals(integers: Tensor, encoding: Encoding) -> Tensor:
    dtype = _working_type(encoding)
    scale, zero_point = aligned(encoding, integers, dtype)
    return (integers.to(dtype) - zero_point).mul_(scale).to(torch.float32)


def _rounded(tensor: Tensor, encoding: Encoding) -> Tensor:
    if tensor.requires_grad and torch.is_grad_enabled():
        result: Tensor = _StraightThrough.apply(tensor, encoding)
        return result
    steps, scale, bottom, top = _steps(tensor, encoding)
    return steps.clamp_(bottom, top).mul_(scale).to(torch.float32)


def _steps(tensor: Tensor, encoding: Encoding) -> tuple[Tensor, Tensor, Any, Any]:
    """Rounded steps from zero, in new memory, with their scale and the grid's ends (zero points need no pass of their own)."""
    scheme = encoding.scheme
    scale, zero_point = aligned(encoding, tensor, _working_type(encoding))
    shift = zero_point if len(set(encoding.zero_point)) > 1 else encoding.zero_point[0]
    return torch.div(tensor.detach().to(scale.dtype), scale).round_(), scale, scheme.lowest - shift, scheme.highest - shift


class _StraightThrough(torch.autograd.Function):
    """Rounding with the derivative of clipping (Bengio et al. 2013, "Estimating or Propagating Gradients Through Stochastic Neurons")."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, encoding: Encoding) -> Tensor:
        steps, scale, bottom, top = _steps(tensor, encoding)
        ctx.save_for_backward((steps >= bottom) & (steps <= top))
        return steps.clamp_(bottom, top).mul_(scale).to(torch.float32)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return gradients[0] * inside, None


def bias_encoding(input: Encoding, weight: Encoding) -> Encoding:
    """The int32 grid of a bias that is added to products of input and weight: scale = s_input * s_weight, zero point 0.

    The product is rounded to float32, as every runtime computes it. A bias that is too large for that grid calls for
    `fit_bias`; one that is small loses at most half of s_input * s_weight, less than one product of two steps.
    """
    if weight.scheme.granularity == "per-group" or len(input.scale) != 1:
        raise RecipeError("a bias has one scale a channel: its input must be quantized per tensor and its weight not per group.")
    product = torch.tensor(weight.scale, dtype=torch.float32) * torch.tensor(input.scale, dtype=torch.float32)
    granularity = "per-tensor" if weight.axis is None else "per-channel"
    scheme = Scheme("int32", symmetric=True, granularity=granularity, power_of_two=input.scheme.power_of_two and weight.scheme.power_of_two)
    return Encoding(scheme, tuple(product.tolist()), (0,) * len(weight.scale), None if weight.axis is None else 0, "bias")


def fit_bias(bias: Tensor, input: Encoding, weight: Encoding) -> Encoding:
    """The weight's encoding, its scales raised where the bias would leave int32 (a channel of tiny weights with a large bias).

    Integers of the bias stay within 2^30, half of int32; the products have the other half. Raising the scale costs nothing
    there: with so large a bias, a step of the weight is far below a step of the result. It is at least doubled, so that pairs
    of weights that fit before (`tersenet.numerics.weights.pairs_fit`) fit however they round.

    Args:
        bias: (channels,).
        input, weight: encodings; the weight's scales run along its output channels.

    Returns:
        the same encoding where every channel fits.
    """
    scale = torch.tensor(weight.scale, dtype=torch.float64)
    needed = bias.detach().to("cpu", torch.float64).abs() / LARGEST_BIAS / input.scale[0]
    if weight.axis is None:
        needed = needed.max().reshape(1)
    if bool((needed <= scale).all()):
        return weight
    raised = float32_scale(torch.where(needed > scale, torch.maximum(2 * scale, needed), scale), weight.scheme)
    return replace(weight, scale=tuple(raised.tolist()))


def q_format(encoding: Encoding) -> str:
    """The fixed-point name of a power-of-two grid: Qm.n has n fraction bits and m integer bits besides the sign.

    >>> q_format(Encoding(Scheme("int8", symmetric=True, power_of_two=True), (0.0625,), (0,)))
    'Q3.4'
    """
    mantissa, exponent = torch.frexp(torch.tensor(encoding.scale, dtype=torch.float64))
    if len(set(encoding.scale)) != 1 or float(mantissa[0]) != 0.5 or any(encoding.zero_point):
        raise RecipeError("only one power-of-two scale with zero point 0 has a Q format; encode with power_of_two=True, symmetric=True.")
    fraction = 1 - int(exponent[0])
    sign = int(encoding.scheme.signed)
    return f"{'Q' if sign else 'UQ'}{encoding.scheme.bits - sign - fraction}.{fraction}"
