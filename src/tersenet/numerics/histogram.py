"""A histogram of a stream, whose range grows without any error.

Bins are as wide as a power of two and start at its multiples, so that a bin twice as wide is exactly two neighbours: when
values come that do not fit, widths double and pairs merge. What a stream leaves behind is the histogram that all its values
at once would give, whatever their order. Dividing by a power of two is exact as well: no value is ever put beside its bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tersenet.errors import DataError

# Zero and all values fit; at least half of the bins lie between the extremes, at least 16 for each step of 8 bits.
BINS = 8192
NARROWEST_EXPONENT = -100
# Values that are counted at a time: their buffers are used again and stay in the cache, which is what the speed hangs on.
BLOCK = 1 << 17
BUFFERS = (torch.float32, torch.int32, torch.int64)


def extremes(tensor: Tensor) -> tuple[float, float]:
    """The smallest and the largest value, which must be finite."""
    low, high = (float(end) for end in torch.aminmax(tensor.detach()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DataError("a range cannot be estimated from NaN or infinity; look at the data or at the layer that made the tensor.")
    return low, high


@dataclass
class Histogram:
    """Counts of values in bins of one width, with their extremes.

    Bin ``i`` of `counts` holds the values from ``(first + i) * width`` up to but not including ``(first + i + 1) * width``.
    """

    low: float = field(default=math.inf, init=False)
    high: float = field(default=-math.inf, init=False)
    exponent: int = field(default=NARROWEST_EXPONENT, init=False)
    first: int = field(default=0, init=False)
    counts: Tensor = field(default_factory=lambda: torch.zeros(BINS, dtype=torch.int64), init=False)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return math.ldexp(1.0, self.exponent)

    def observe(self, tensor: Tensor) -> None:
        """Count the values of a tensor of any shape: some 2 to 4 ns each on one core."""
        if not tensor.numel():
            return
        values = tensor.detach().to(torch.float32).reshape(-1)
        low, high = extremes(values)
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._make_room()
        steps, narrow, wide = (torch.empty(min(BLOCK, values.numel()), dtype=dtype, device=values.device) for dtype in BUFFERS)
        for part in values.split(BLOCK):
            size = part.numel()
            # Dividing by a power of two, floor and the difference of small integers are exact. By way of int32, int64 is reached sooner.
            torch.mul(part, math.ldexp(1.0, -self.exponent), out=steps[:size])
            narrow[:size].copy_(steps[:size].floor_().sub_(self.first))
            wide[:size].copy_(narrow[:size])
            self.counts += torch.bincount(wide[:size], minlength=BINS).cpu()

    def _make_room(self) -> None:
        """Widen bins until zero and the extremes fit, and move the counts there."""
        exponent, low, high = self.exponent, min(self.low, 0.0), max(self.high, 0.0)
        # From the narrowest that could do; the loop adds what the position of the ends needs beyond that.
        if high > low:
            exponent = max(exponent, math.frexp((high - low) / BINS)[1] - 1)
        while _bin(high, exponent) - _bin(low, exponent) >= BINS:
            exponent += 1
        first = _bin(low, exponent)
        if exponent == self.exponent and self.first <= first and _bin(high, exponent) < self.first + BINS:
            return
        filled = self.counts.nonzero().reshape(-1)
        counts = torch.zeros_like(self.counts)
        counts.index_add_(0, ((filled + self.first) >> (exponent - self.exponent)) - first, self.counts[filled])
        self.exponent, self.first, self.counts = exponent, first, counts

    def filled(self) -> tuple[Tensor, Tensor]:
        """Edges (bins + 1, float64) and counts (bins, float64) from the first to the last bin that holds anything or zero."""
        start = _bin(min(self.low, 0.0), self.exponent) - self.first
        stop = _bin(max(self.high, 0.0), self.exponent) - self.first + 1
        edges = (torch.arange(start, stop + 1, dtype=torch.float64) + self.first) * self.width
        return edges, self.counts[start:stop].to(torch.float64)


def _bin(value: float, exponent: int) -> int:
    """The bin of this width that holds a value."""
    return math.floor(math.ldexp(value, -exponent))
