"""Ranges of activations, estimated from a stream of batches in memory that does not grow with their number."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from tersenet.errors import DataError, RecipeError, unknown
from tersenet.schemes import Scheme


class Estimator(Protocol):
    """Sees the batches of one tensor and then names the range that its grid should span."""

    def observe(self, tensor: Tensor) -> None:
        """Take in one batch, of any shape."""

    def range(self, scheme: Scheme) -> tuple[float, float]:
        """The range (low, high) for such a grid, from all that was observed."""


def extremes(tensor: Tensor) -> tuple[float, float]:
    """The smallest and the largest value, which must be finite."""
    low, high = (float(end) for end in torch.aminmax(tensor.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError("a range cannot be estimated from NaN or infinity; look at the data or at the layer that made the tensor.")
    return low, high


def observed(low: float, high: float) -> tuple[float, float]:
    """The range, where there is one."""
    if low > high:
        raise DataError("a range cannot be estimated without data: show the estimator at least one tensor that is not empty.")
    return low, high


@dataclass
class MinMax:
    """The smallest and the largest value that were seen."""

    low: float = field(default=math.inf, init=False)
    high: float = field(default=-math.inf, init=False)

    def observe(self, tensor: Tensor) -> None:
        if tensor.numel():
            low, high = extremes(tensor)
            self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self, scheme: Scheme) -> tuple[float, float]:
        return observed(self.low, self.high)


@dataclass
class MovingAverage:
    """Exponential averages of the smallest and the largest value of each batch (Jacob et al. 2018, section 3.1).

    Args:
        momentum: weight of the past, 0 to below 1. The first batch counts as the whole past. Depends on the order of batches.
    """

    momentum: float = 0.9
    low: float = field(default=math.inf, init=False)
    high: float = field(default=-math.inf, init=False)

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise RecipeError(f"momentum must be at least 0 and less than 1, got {self.momentum}.")

    def observe(self, tensor: Tensor) -> None:
        if not tensor.numel():
            return
        low, high = extremes(tensor)
        if self.low > self.high:
            self.low, self.high = low, high
        self.low += (1 - self.momentum) * (low - self.low)
        self.high += (1 - self.momentum) * (high - self.high)

    def range(self, scheme: Scheme) -> tuple[float, float]:
        return observed(self.low, self.high)


ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "minmax": MinMax,
    "moving-average": MovingAverage,
}


def estimator(name: str, **numbers: float) -> Estimator:
    """A fresh estimator by its name in `ESTIMATORS`.

    Args:
        name: the key.
        numbers: the estimator's own arguments, by name.

    Raises:
        RecipeError: there is no such estimator, or it has no such argument.
    """
    if name not in ESTIMATORS:
        raise RecipeError(unknown("range estimator", name, ESTIMATORS))
    known = inspect.signature(ESTIMATORS[name]).parameters
    for key in numbers:
        if key not in known:
            raise RecipeError(f"range estimator {name!r} takes {', '.join(known) or 'no numbers'}, got {key!r}.")
    return ESTIMATORS[name](**numbers)
