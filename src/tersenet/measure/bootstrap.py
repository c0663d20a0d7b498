"""Intervals by resampling, seeded: the same samples give the same interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

RESAMPLES = 1000
LEVEL = (2.5, 97.5)


def interval(
    statistic: Callable[[np.ndarray], np.ndarray | float], count: int, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float] | None:
    """The percentile bootstrap's 95 % interval of a statistic (Efron and Tibshirani 1993, section 13.3).

    Args:
        statistic: of the drawn positions, an array of `count` integers in 0..count-1.
        count: how many samples (or blocks of them) there are.
        resamples: how many times to draw.
        seed: of the draws.

    Returns:
        Its ends; None where there are fewer than two samples, or where most draws have no statistic (it is not finite).
    """
    if count < 2:
        return None
    generator = np.random.default_rng(seed)
    values = np.asarray([statistic(generator.integers(0, count, count)) for _ in range(resamples)], dtype=np.float64)
    finite = values[np.isfinite(values)]
    if 2 * len(finite) < resamples:
        return None
    low, high = np.percentile(finite, LEVEL)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> tuple[float, float] | None:
    """The normal 95 % interval of a mean of independent values; None where there are fewer than two."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), 1.959964 * float(np.std(values, ddof=1)) / np.sqrt(len(values))
    return float(mean - half), float(mean + half)
