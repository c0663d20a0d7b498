"""Weights that share values: a codebook for each tensor, by k-means on a line."""

from __future__ import annotations

import torch
from torch import Tensor

from tersenet.errors import RecipeError, unknown

INITIALIZATIONS = ("linear", "density")
ROUNDS = 200  # of Lloyd's algorithm, at most


def codebook(values: Tensor, count: int, initialization: str = "linear") -> tuple[Tensor, Tensor]:
    """The values that a tensor's numbers are replaced by, and which each gets: k-means on a line, the same at every call.

    Lloyd's algorithm on sorted numbers: each goes to the nearest value, each value to the mean of its members, until nothing moves.

    Args:
        values: any shape, finite.
        count: values at most, at least 1; fewer where there are fewer different numbers.
        initialization: linear (evenly from the least to the largest, so that large weights have values of their own) or density (equally many
            numbers for each).

    Returns:
        The codebook, float64, rising; the place in it of each number, int64, of the shape of `values`.

    Raises:
        RecipeError: an unknown initialization.

    >>> values, places = codebook(torch.tensor([0.0, 0.1, 1.0, 1.2]), 2)
    >>> [round(value, 2) for value in values.tolist()], places.tolist()
    ([0.05, 1.1], [0, 0, 1, 1])

    Reference: Han et al. 2016, "Deep Compression", section 3.1 (equation 2), initializations of section 3.2.
    """
    if initialization not in INITIALIZATIONS:
        raise RecipeError(unknown("initialization", initialization, INITIALIZATIONS))
    flat = values.detach().double().reshape(-1)
    different = torch.unique(flat)
    if len(different) <= count:
        return different, torch.searchsorted(different, flat).reshape(values.shape)
    ordered = torch.sort(flat).values
    sums = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumsum(ordered, 0)])
    centers = _start(ordered, count, initialization)
    for _ in range(ROUNDS):
        ends = torch.searchsorted(ordered, _between(centers))
        edges = torch.cat([torch.zeros(1, dtype=torch.int64), ends, torch.tensor([len(ordered)])])
        members = edges.diff()
        means = torch.where(members > 0, (sums[edges[1:]] - sums[edges[:-1]]) / members.clamp(min=1), centers)
        if torch.equal(means, centers):
            break
        centers = torch.sort(means).values
    return _used(centers, torch.searchsorted(_between(centers), flat).reshape(values.shape))


def _start(ordered: Tensor, count: int, initialization: str) -> Tensor:
    if initialization == "linear":
        return torch.linspace(float(ordered[0]), float(ordered[-1]), count, dtype=torch.float64)
    middles = (torch.arange(count, dtype=torch.float64) + 0.5) / count * len(ordered)
    return ordered[middles.long()]


def _between(centers: Tensor) -> Tensor:
    return (centers[1:] + centers[:-1]) / 2


def _used(centers: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Without values that no number has."""
    alive, numbers = torch.unique(places, return_inverse=True)
    return centers[alive], numbers.reshape(places.shape)


def means(values: Tensor, places: Tensor, count: int, alive: Tensor | None = None) -> Tensor:
    """The mean of the numbers that share a place; 0 where none does.

    Args:
        values: any shape.
        places: of its shape, 0 to, not including, `count`.
        alive: of its shape; False where a number does not count. None: all do.
    """
    flat, at = values.reshape(-1), places.reshape(-1)
    weight = torch.ones_like(flat) if alive is None else alive.reshape(-1).to(flat.dtype)
    total = torch.zeros(count, dtype=flat.dtype, device=flat.device).index_add_(0, at, flat * weight)
    members = torch.zeros_like(total).index_add_(0, at, weight)
    return total / members.clamp(min=1)


def shared_span(weight: Tensor, source: Tensor, axis: int) -> Tensor:
    """How far each channel of a folded weight would reach if it had the largest value of the codebook: then equal values become equal integers.

    A channel of the folded weight is a factor times that of the source; a grid with the factor in its scale gives both the same integers.

    Args:
        weight: folded, any shape.
        source: the weight as it shares its values, of that shape.
        axis: of the channels.

    Returns:
        One positive number a channel, in float64.
    """
    folded, own = (each.detach().double().movedim(axis, 0).flatten(1).abs().amax(1) for each in (weight, source))
    largest = own.amax()
    factors = torch.where(own > 0, folded / own.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
    usual = torch.where(factors > 0, factors, factors.amax())
    return torch.where(usual > 0, usual * largest, 1.0)
