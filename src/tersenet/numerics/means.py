"""Means of activations over a stream of batches, in memory of one sample."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, float64


@dataclass
class Mean:
    """The mean over samples, each element of a sample by itself.

    Args:
        features: average over every axis but the last as well: all that a matrix product needs.
    """

    features: bool = False
    total: Tensor | None = field(default=None, init=False)
    count: int = field(default=0, init=False)

    def observe(self, tensor: Tensor) -> None:
        """Take in one batch: (samples, ...), the same size behind the first axis each time; with `features` (..., features)."""
        # Sums over the first axis alone are the same whatever the number of threads; others are, in float64, as good as the same.
        summed = tensor.flatten(0, -2).sum(0, keepdim=True, dtype=float64) if self.features else tensor.sum(0, keepdim=True)
        self.count += tensor[..., 0].numel() if self.features else len(tensor)
        self.total = summed if self.total is None else self.total.add_(summed)

    def value(self) -> Tensor:
        """(1, ...), float64; (1, features)."""
        if self.total is None:
            raise ValueError("a mean needs at least one batch; none was observed.")
        return self.total.double() / self.count
