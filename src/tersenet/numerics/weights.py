"""Encodings of weights: constants that are known in full, so that their scales can be searched."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from tersenet.errors import RecipeError, unknown
from tersenet.numerics.affine import aligned, encode, grouped
from tersenet.schemes import Encoding, Scheme

METHODS = ("minmax", "mse")
# 255 * 128 is the largest product of a uint8 and a sum of two weights that 16 bits hold.
LARGEST_PAIR = 128
SMALLEST_RATIO = 0.3
RATIOS = 71
CACHED = 1 << 16


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
        rows = _both_ways(reduction_rows(weight.detach(), axis, pair_axis), weight.shape[pair_axis])
    else:
        rows = weight.detach().movedim(axis, 0).reshape(weight.shape[axis], -1)
    low, high = (end.to("cpu", torch.float64) for end in torch.aminmax(rows, dim=1))
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


def _both_ways(rows: Tensor, inner: int) -> Tensor:
    """Rows of an odd number of input channels twice: side by side, and with a zero behind each window, as a file may lay them out."""
    if inner % 2 == 0:
        return rows
    windows = torch.nn.functional.pad(rows.reshape(rows.shape[0], -1, inner), (0, 1)).flatten(1)
    return torch.cat([torch.nn.functional.pad(rows, (0, rows.shape[1] % 2)), windows], 1)


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


def kernel_pairs_fit(integers: Tensor, axis: int, pair_axis: int) -> Tensor:
    """`pairs_fit` of a weight's integers, however a file may lay out an odd number of input channels: one answer for each index of `axis`."""
    return pairs_fit(_both_ways(reduction_rows(integers, axis, pair_axis), integers.shape[pair_axis]))


def _best_ratio(rows: Tensor, low: Tensor, high: Tensor, scheme: Scheme, method: str, saturating_pairs: bool) -> Tensor:
    """The factor on both ends, one for each scale: the least in cost among those that fit, the first of equals."""
    ratios = [1.0]
    if method == "mse":
        ratios = torch.linspace(SMALLEST_RATIO, 1.0, RATIOS, dtype=torch.float64).tolist()
    least_ratio = torch.zeros(rows.shape[0], dtype=torch.float64)
    if saturating_pairs:
        ratios += [127 / limit for limit in range(126, 63, -1)]
        least_ratio = _least_ratio(rows, torch.maximum(-low, high))
    if len(ratios) == 1:
        return torch.ones_like(low)
    best, least = torch.full_like(low, ratios[-1]), torch.full_like(low, torch.inf)
    for ratio in ratios:
        # Below a ratio of 1 values are clipped, and then even heavy neighbours may fit.
        open_rows = (least_ratio <= ratio) | (ratio < 1)
        if method == "minmax":
            open_rows &= ~torch.isfinite(least)
        if not bool(open_rows.any()) or (low.numel() == 1 and not bool(open_rows.all())):
            continue
        open_low, open_high = (end.expand(rows.shape[0])[open_rows] * ratio for end in (low, high))
        encoding = encode(open_low, open_high, replace(scheme, granularity="per-channel", group_size=0), 0, "weight")
        error, fits = _errors(rows[open_rows.to(rows.device)], encoding, saturating_pairs)
        cost = torch.full((rows.shape[0],), torch.inf, dtype=torch.float64)
        cost[open_rows] = torch.where(fits, error if method == "mse" else torch.full_like(error, ratio), torch.inf)
        if low.numel() == 1:
            cost = cost.sum().reshape(1)
        better = cost < least
        best, least = torch.where(better, ratio, best), torch.where(better, cost, least)
    return best


def _least_ratio(rows: Tensor, bound: Tensor) -> Tensor:
    """Ratios below which pairs cannot fit: rounding takes at most one from the sum of two integers. It spares most trials."""
    padded = torch.nn.functional.pad(rows, (0, rows.shape[1] % 2)).reshape(rows.shape[0], -1, 2)
    heaviest = torch.maximum(padded.clamp(min=0).sum(2).amax(1), -padded.clamp(max=0).sum(2).amin(1)).cpu().to(torch.float64)
    return heaviest / (LARGEST_PAIR + 1) / (bound.clamp(min=torch.finfo(torch.float32).tiny) / 127) * (1 - 1e-6)


def _errors(rows: Tensor, encoding: Encoding, saturating_pairs: bool) -> tuple[Tensor, Tensor]:
    """Squared error of each row on its grid, and whether its pairs fit. In blocks of rows that stay in the cache."""
    errors, fits = [], []
    scales, zeros = aligned(encoding, rows, torch.float32)
    block = max(1, CACHED // rows.shape[1])
    for part, scale, zero in zip(rows.split(block), scales.split(block), zeros.split(block), strict=True):
        steps = torch.div(part, scale).round_().add_(zero).clamp_(encoding.scheme.lowest, encoding.scheme.highest).sub_(zero)
        fits.append(pairs_fit(steps) if saturating_pairs else torch.ones(part.shape[0], dtype=torch.bool))
        errors.append(steps.mul_(scale).sub_(part).square_().sum(1))
    return torch.cat(errors).double().cpu(), torch.cat(fits).cpu()
