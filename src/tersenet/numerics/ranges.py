"""Ranges of activations, estimated from a stream of batches in memory that does not grow with their number."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from tersenet.errors import DataError, RecipeError, unknown
from tersenet.numerics.clipping import least_entropy_range, least_error_range, percentile_range
from tersenet.numerics.histogram import Histogram, extremes
from tersenet.schemes import Scheme


class Estimator(Protocol):
    """Sees the batches of one tensor and then names the range that its grid should span."""

    def observe(self, tensor: Tensor) -> None:
        """Take in one batch, of any shape."""

    def range(self, scheme: Scheme) -> tuple[float, float]:
        """The range (low, high) for such a grid, from all that was observed."""


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


@dataclass(frozen=True)
class Given:
    """A range that is known already, whatever is seen."""

    low: float
    high: float

    def observe(self, tensor: Tensor) -> None:
        """Nothing to learn."""

    def range(self, scheme: Scheme) -> tuple[float, float]:
        return self.low, self.high


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


@dataclass
class Percentile:
    """The range that keeps a percentage of all values, half of the others lost on each side.

    Args:
        percent: above 50, up to 100; 100 is `MinMax`.
    """

    percent: float = 99.99
    histogram: Histogram = field(default_factory=Histogram, init=False)

    def __post_init__(self) -> None:
        if not 50 < self.percent <= 100:
            raise RecipeError(f"percent must be above 50 and at most 100, got {self.percent}.")

    def observe(self, tensor: Tensor) -> None:
        self.histogram.observe(tensor)

    def range(self, scheme: Scheme) -> tuple[float, float]:
        observed(self.histogram.low, self.histogram.high)
        return percentile_range(self.histogram, self.percent)


@dataclass
class MeanSquaredError:
    """The range with the least expected squared error; both ends are searched (`least_error_range`)."""

    histogram: Histogram = field(default_factory=Histogram, init=False)

    def observe(self, tensor: Tensor) -> None:
        self.histogram.observe(tensor)

    def range(self, scheme: Scheme) -> tuple[float, float]:
        observed(self.histogram.low, self.histogram.high)
        return least_error_range(self.histogram, scheme)


@dataclass
class Entropy:
    """The range with the least relative entropy, TensorRT's criterion (`least_entropy_range`)."""

    histogram: Histogram = field(default_factory=Histogram, init=False)

    def observe(self, tensor: Tensor) -> None:
        self.histogram.observe(tensor)

    def range(self, scheme: Scheme) -> tuple[float, float]:
        observed(self.histogram.low, self.histogram.high)
        return least_entropy_range(self.histogram, scheme)


ESTIMATORS: dict[str, Callable[..., Estimator]] = {
    "minmax": MinMax,
    "moving-average": MovingAverage,
    "percentile": Percentile,
    "mse": MeanSquaredError,
    "entropy": Entropy,
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
