"""Encodings of weights: constants that are known in full, so that their scales can be searched."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tersenet.errors import RecipeError, unknown
from tersenet.numerics.affine import dequantize, encode, grouped, quantize
from tersenet.schemes import Encoding, Scheme

METHODS = ("minmax", "mse")
# 255 * 128 is the largest product of a uint8 and a sum of two weights that 16 bits hold.
LARGEST_PAIR = 128
SMALLEST_RATIO = 0.3
RATIOS = 71


def weight_encoding(
    weight: Tensor,
    scheme: Scheme,
    axis: int = 0,
    method: str = "minmax",
    saturating_pairs: bool = False,
    pair_axis: int = 1,
) -> Encoding:
    """The encoding of a weight: its extremes, or the ends that lose least, within what the kernel can add up.

    Args:
        weight: any shape.
        scheme: the grid. With ``per-tensor`` one scale serves all channels.
        axis: the axis of output channels.
        method: ``minmax`` spans all values; ``mse`` shrinks both ends of each channel by the ratio, of `RATIOS` between
            `SMALLEST_RATIO` and 1, with the least squared error (never more than that of ``minmax``).
        saturating_pairs: the kernel multiplies by uint8 and adds the products of two neighbours in 16 bits (``vpmaddubsw``,
            x86 without VNNI). Each channel then takes the largest limit L <= 127, tried down from 127, for which the integers
            of no two neighbours have a positive part above 128 or a negative part below -128; 64 always does.
        pair_axis: with `saturating_pairs`, the axis along which neighbours are counted, the innermost of the reduction: input
            channels. The other axes lie outside it in their own order (kernel row, kernel column, input channel).

    Returns:
        the encoding, of role ``weight``; its axis is None for one scale.

    Raises:
        RecipeError: an unknown method, or pairs with a grid that no such kernel takes.
        DataError: the weight is not finite.
    """
    if method not in METHODS:
        raise RecipeError(unknown("method for weights", method, METHODS))
    if saturating_pairs and (scheme.dtype != "int8" or not scheme.symmetric or scheme.granularity == "per-group"):
        raise RecipeError("saturating pairs are a matter of symmetric int8 weights with one scale a tensor or a channel.")
    per_tensor = scheme.granularity == "per-tensor"
    if scheme.granularity == "per-group":
        rows = grouped(weight.detach(), axis, scheme.group_size).flatten(0, 1)
    elif saturating_pairs:
        rows = reduction_rows(weight.detach(), axis, pair_axis)
    else:
        rows = weight.detach().movedim(axis, 0).reshape(weight.shape[axis], -1)
    low, high = (end.to(torch.float64) for end in torch.aminmax(rows, dim=1))
    if per_tensor:
        low, high = low.min().reshape(1), high.max().reshape(1)
    ratio = _best_ratio(rows, low, high, scheme, method, saturating_pairs)
    return encode(low * ratio, high * ratio, scheme, None if per_tensor else axis % weight.dim(), "weight")


def reduction_rows(weight: Tensor, axis: int, pair_axis: int) -> Tensor:
    """The weight as (output channel, reduction), the reduction in the order of x86 kernels: `pair_axis` innermost.

    That is the order of onnxruntime's convolution, which lays images out with channels last, and of its matrix product.
    """
    axis, pair_axis = axis % weight.dim(), pair_axis % weight.dim()
    if axis == pair_axis:
        raise RecipeError(f"output channels and the reduction must be different axes, got {axis} for both.")
    between = [index for index in range(weight.dim()) if index not in (axis, pair_axis)]
    return weight.permute(axis, *between, pair_axis).flatten(1)


def pairs_fit(rows: Tensor) -> Tensor:
    """Whether the products of no two neighbours, times anything in [0, 255], leave 16 bits: one answer for each row.

    Args:
        rows: integers, (channels, reduction) in the kernel's order; neighbours are 0 and 1, 2 and 3 ...

    >>> pairs_fit(torch.tensor([[127, 1, 127, -127], [127, 2, 0, 0], [0, 127, 127, 0]])).tolist()
    [True, False, True]
    """
    if rows.shape[1] % 2:
        rows = torch.nn.functional.pad(rows, (0, 1))
    pairs = rows.to(torch.int16).reshape(rows.shape[0], -1, 2)
    positive, negative = pairs.clamp(min=0).sum(2), pairs.clamp(max=0).sum(2)
    return ((positive <= LARGEST_PAIR) & (negative >= -LARGEST_PAIR)).all(dim=1)


def _best_ratio(rows: Tensor, low: Tensor, high: Tensor, scheme: Scheme, method: str, saturating_pairs: bool) -> Tensor:
    """The factor on both ends, one for each scale: the first in cost among those that fit."""
    ratios = [1.0]
    if method == "mse":
        ratios = torch.linspace(SMALLEST_RATIO, 1.0, RATIOS, dtype=torch.float64).tolist()
    if saturating_pairs:
        ratios += [127 / limit for limit in range(126, 63, -1)]
    if len(ratios) == 1:
        return torch.ones_like(low)
    row_scheme = replace(scheme, granularity="per-channel", group_size=0)
    best = torch.full_like(low, ratios[-1])
    least = torch.full_like(low, torch.inf)
    for ratio in ratios:
        encoding = encode((low * ratio).expand(rows.shape[0]), (high * ratio).expand(rows.shape[0]), row_scheme, 0, "weight")
        integers = quantize(rows, encoding)
        cost = torch.full((rows.shape[0],), ratio, dtype=torch.float64)
        if method == "mse":
            cost = (dequantize(integers, encoding) - rows).double().square().sum(1).cpu()
        if saturating_pairs:
            cost = torch.where(pairs_fit(integers).cpu(), cost, torch.inf)
        if low.numel() == 1:
            cost = cost.sum().reshape(1)
        better = cost < least
        best, least = torch.where(better, ratio, best), torch.where(better, cost, least)
        if method == "minmax" and bool(torch.isfinite(least).all()):
            break
    return best
