"""What quantization does to each inner value, batch by batch: noise, use of the chosen range, histograms."""

from __future__ import annotations

import numpy as np

from tersenet.measure.agreement import decibels
from tersenet.record import Layer, WeightRange
from tersenet.schemes import Encoding

BINS = 64
FINER = 32  # bins that are counted for each bin that is recorded
OUTLIERS = 0.001  # of the values, that the used part of a range leaves out, half at each end


class LayerMeter:
    """One value of the network, in float and as simulated; memory does not grow with the samples.

    Args:
        name: in the source.
        range: the smallest and largest real number of the chosen grid.
        op: the kind of operator that makes it.
        bins: of the histogram, over the range, widened where the first batch goes beyond it.
    """

    def __init__(self, name: str, range: tuple[float, float], op: str = "", bins: int = BINS) -> None:
        self.name, self.op = name, op
        self.range = (float(range[0]), float(range[1]))
        self._counts = np.zeros(bins * FINER, np.int64)
        self._limits: tuple[float, float] | None = None
        self._signal = self._noise = 0.0
        self._clipped = 0

    def add(self, reference: np.ndarray, simulated: np.ndarray) -> None:
        """One batch of the value: in float, and with quantization simulated; the same shape."""
        first = np.asarray(reference, np.float32).reshape(-1)
        difference = first - np.asarray(simulated, np.float32).reshape(-1)
        self._signal += float(np.dot(first, first))
        self._noise += float(np.dot(difference, difference))
        finite = first if np.isfinite(first).all() else first[np.isfinite(first)]
        if finite.size == 0:
            return
        low, high = float(finite.min()), float(finite.max())
        if self._limits is None:
            self._limits = _widened(min(low, self.range[0]), max(high, self.range[1]))
        step = (self.range[1] - self.range[0]) / 255  # what rounds into the grid's ends is not clipped
        self._clipped += int(((finite < self.range[0] - step) | (finite > self.range[1] + step)).sum())
        self._counts += np.histogram(np.clip(finite, *self._limits), len(self._counts), self._limits)[0]

    def layer(self, weights: WeightRange | None = None, agreement_db: float | None = None) -> Layer:
        """The record of what was added."""
        total, (low, high) = int(self._counts.sum()), self.range
        return Layer(
            name=self.name,
            sqnr_db=decibels(self._signal, self._noise) if total else None,
            range=self.range,
            used=self._used(total) if high > low else 1.0,
            histogram=tuple(self._counts.reshape(-1, FINER).sum(1).tolist()),
            histogram_range=self._limits,
            op=self.op,
            clipped=self._clipped / total if total else 0.0,
            weights=weights,
            agreement_db=agreement_db,
        )

    def _used(self, total: int) -> float:
        """Share of the range in which all but `OUTLIERS` of the values lie."""
        if self._limits is None:
            return 0.0
        edges = np.linspace(*self._limits, len(self._counts) + 1)
        below = np.cumsum(self._counts)
        first = int(np.searchsorted(below, total * OUTLIERS / 2, side="right"))
        last = int(np.searchsorted(below, total * (1 - OUTLIERS / 2), side="left"))
        low, high = self.range
        return float(max(0.0, min(high, edges[last + 1]) - max(low, edges[first])) / (high - low))


def weight_range(weights: np.ndarray, encoding: Encoding, bins: int = BINS) -> WeightRange:
    """The histogram of a layer's weights beside their grid.

    Args:
        weights: real numbers, as the file represents them before rounding.
        encoding: the grid; with several scales, the widest one's ends are shown.
    """
    flat = np.asarray(weights, np.float64).reshape(-1)
    limits = (float(flat.min()), float(flat.max())) if flat.size else (0.0, 0.0)
    counts = np.histogram(flat, bins, _widened(*limits))[0]
    return WeightRange(tuple(counts.tolist()), _widened(*limits), encoding.range, encoding.scheme.dtype, len(encoding.scale))


def _widened(low: float, high: float) -> tuple[float, float]:
    """Limits that a histogram can have: never of width zero."""
    return (low, high) if high > low else (low - 0.5, high + 0.5)
