"""Where to clip: ranges chosen from a histogram, by percentile, by squared error and by relative entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from tersenet.numerics.affine import encode
from tersenet.numerics.histogram import Histogram
from tersenet.schemes import Scheme

# Each step of the search narrows an end by this factor; the finest then lie within one step on either side.
SHRINK = 0.9
STEPS = 44
REFINEMENTS = 9
ROUNDS = 2
# Grids from here on are finer than the bins, and so fine that clipping gains nothing.
FINE_BITS = 16

Cost = Callable[[Tensor, Tensor], Tensor]


def percentile_range(histogram: Histogram, percent: float) -> tuple[float, float]:
    """The range that keeps this percentage of the values; half of the others are lost on each side.

    Between the edges of a bin its values count as spread evenly. 100 percent are the extremes themselves.
    """
    edges, counts = histogram.filled()
    cumulative = _sums(counts) / counts.sum()
    cut = (100 - percent) / 200
    if cut == 0:
        return histogram.low, histogram.high
    # The last edge with at most that share below it, and the first with at least that share.
    lower = int(torch.searchsorted(cumulative, torch.tensor(cut), right=True)) - 1
    upper = int(torch.searchsorted(cumulative, torch.tensor(1 - cut)))
    low = edges[lower] + histogram.width * (cut - cumulative[lower]) / (cumulative[lower + 1] - cumulative[lower])
    high = edges[upper] - histogram.width * (cumulative[upper] - (1 - cut)) / (cumulative[upper] - cumulative[upper - 1])
    low, high = torch.stack([low, high]).clamp(histogram.low, histogram.high)
    return float(low), float(high)


def least_error_range(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
    """The range with the least expected squared error of quantization. Zeros are on every grid and cost nothing."""
    if scheme.bits >= FINE_BITS:
        return histogram.low, histogram.high
    edges, counts = histogram.filled()
    counts = without_zeros(edges, counts)

    def cost(low: Tensor, high: Tensor) -> Tensor:
        return squared_error(edges, counts, *grids(low, high, scheme))

    return search(histogram.low, histogram.high, scheme, cost)


def squared_error(edges: Tensor, counts: Tensor, scale: Tensor, bottom: Tensor, top: Tensor) -> Tensor:
    """The sum of squared errors on each of many grids, of values that are spread evenly within their bins.

    The integral of the squared error from 0 to ``t`` steps, ``n`` being the nearest integer of the grid, is
    ``n / 12 + (t - n)^3 / 3``: one term for whole steps, one for the rest, which is the error of clipping where ``n`` is the last.

    Args:
        edges, counts: of equal bins.
        scale, bottom, top: as `grids` gives them.

    Returns:
        (grids,).
    """
    steps = edges / scale
    nearest = torch.round(steps).clamp_(bottom, top)
    integral = steps.sub_(nearest).pow_(3).mul_(4).add_(nearest)
    return (integral.diff(dim=1) @ counts) * scale.squeeze(1) ** 3 / (12 * (edges[1] - edges[0]))


def least_entropy_range(histogram: Histogram, scheme: Scheme) -> tuple[float, float]:
    """The range with the least relative entropy of the clipped histogram to its quantized form.

    As Migacz 2017 ("8-bit Inference with TensorRT"): values outside count in the outermost bins of the clipped histogram P; its
    quantized form Q, made from the values inside alone, spreads the mass of each step evenly over the step's bins that are not
    empty; the range is the one with the least ``sum(P * log(P / Q))``. So clipping costs and coarseness costs. Four departures:
    the levels are those of the grid itself, with its zero point, so that a one-sided range has all of them and both ends are
    searched for a grid that is not symmetric; exact zeros, which every grid holds, are left out (else the spike that a ReLU
    leaves outweighs all else); Q is a share of all values, not of those inside (else a range with next to nothing inside looks
    perfect); an outermost bin without values inside counts as half a value in Q, where the ratio would be infinite.
    """
    if scheme.bits >= FINE_BITS:
        return histogram.low, histogram.high
    edges, counts = histogram.filled()
    centers, counts = (edges[:-1] + edges[1:]) / 2, without_zeros(edges, counts)
    levels = scheme.highest - scheme.lowest + 1
    if len(centers) < levels or not bool(counts.any()):
        return histogram.low, histogram.high

    def cost(low: Tensor, high: Tensor) -> Tensor:
        scale, bottom, _ = grids(low, high, scheme)
        borders = (bottom - 0.5 + torch.arange(levels + 1, dtype=torch.float64)) * scale
        entropy = relative_entropy(counts, torch.searchsorted(centers, borders))
        # With fewer bins than levels nothing is left to measure.
        return torch.where(scale.squeeze(1) >= histogram.width, entropy, torch.inf)

    return search(histogram.low, histogram.high, scheme, cost)


def relative_entropy(counts: Tensor, borders: Tensor) -> Tensor:
    """``sum(P * log(P / Q))`` of many grids, from sums over steps alone.

    Args:
        counts: of bins.
        borders: (grids, levels + 1): the bins of level ``l`` are from ``borders[:, l]`` up to but not including ``borders[:, l + 1]``.

    Returns:
        (grids,), at least 0.
    """
    start, stop = borders[:, 0], borders[:, -1]
    mass, occupied, own = (_sums(term)[borders].diff(dim=1) for term in (counts, (counts > 0).double(), torch.xlogy(counts, counts)))
    even = mass / occupied.clamp(min=1)
    # Counts in place of P and Q, whose common divisor cancels; the outermost bins of P hold what lies outside.
    first, last = counts[start.clamp(max=len(counts) - 1)], counts[(stop - 1).clamp(min=0)]
    below, above = _sums(counts)[start], counts.sum() - _sums(counts)[stop]
    reference, model = own.sum(1), torch.xlogy(mass, even).sum(1)
    for bin_count, outside, level in ((first, below, even[:, 0]), (last, above, even[:, -1])):
        reference = reference + torch.xlogy(bin_count + outside, bin_count + outside) - torch.xlogy(bin_count, bin_count)
        model = model + torch.xlogy(outside, torch.where(bin_count > 0, level, 0.5))
    return (reference - model) / counts.sum()


def _sums(terms: Tensor) -> Tensor:
    """Sums of the first 0, 1, 2 ... terms."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), terms.cumsum(0)])


def without_zeros(edges: Tensor, counts: Tensor) -> Tensor:
    """The counts with no more in the bin that starts at zero than in the fuller of its neighbours: what exceeds that are zeros."""
    zero = int(torch.searchsorted(edges, torch.zeros((), dtype=torch.float64), right=True)) - 1
    neighbours = counts[max(zero - 1, 0) : zero + 2].clone()
    neighbours[min(zero, 1)] = 0
    thinned = counts.clone()
    thinned[zero] = torch.minimum(counts[zero], neighbours.max())
    return thinned


def grids(low: Tensor, high: Tensor, scheme: Scheme) -> tuple[Tensor, Tensor, Tensor]:
    """Scales, and the first and last integers counted from the zero point, of many ranges: columns, to go with rows of bins."""
    encoding = encode(low, high, replace(scheme, granularity="per-channel", group_size=0), 0)
    zero_point = torch.tensor(encoding.zero_point, dtype=torch.float64).unsqueeze(1)
    scale = torch.tensor(encoding.scale, dtype=torch.float64).unsqueeze(1)
    return scale, scheme.lowest - zero_point, scheme.highest - zero_point


def search(low: float, high: float, scheme: Scheme, cost: Cost) -> tuple[float, float]:
    """The cheapest range within (low, high): both ends together, then each in turn, then finer around the best.

    The full range is the first candidate: nothing dearer is returned. Symmetric grids have one end to search.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return low, high
    bound = max(-low, high)
    ends = torch.tensor([-bound, bound] if scheme.symmetric else [low, high], dtype=torch.float64)
    together, moves = torch.tensor([True, True]), [torch.tensor([False, True]), torch.tensor([True, False])]
    if scheme.symmetric or low == 0 or high == 0:
        moves = []
    coarse = SHRINK ** torch.arange(STEPS, dtype=torch.float64).unsqueeze(1)
    fine = torch.linspace(SHRINK, 1 / SHRINK, REFINEMENTS, dtype=torch.float64).unsqueeze(1)
    best, least = torch.ones(2, dtype=torch.float64), torch.inf
    for move in [together, *moves * ROUNDS]:
        best, least = _cheapest(torch.where(move, coarse, best), ends, cost, best, least)
    for move in moves * ROUNDS or [together]:
        best, least = _cheapest(torch.where(move, fine * best, best).clamp(max=1), ends, cost, best, least)
    best_low, best_high = (float(end) for end in best * ends)
    return max(best_low, low), min(best_high, high)


def _cheapest(ratios: Tensor, ends: Tensor, cost: Cost, best: Tensor, least: float) -> tuple[Tensor, float]:
    """The better of the best so far and the candidates (candidates, 2), of which the first of equals."""
    costs = cost(*(ratios * ends).unbind(1))
    index = int(costs.argmin())
    return (ratios[index], float(costs[index])) if float(costs[index]) < least else (best, least)
