"""The order of axes: Keras mostly has the channels last, torch has them first behind the batch."""

from __future__ import annotations

from torch import Tensor


def to_first(x: Tensor, channels_last: bool = True) -> Tensor:
    """From (batch, ..., channels) to (batch, channels, ...); as it is where the channels come first already."""
    return x.permute(0, x.dim() - 1, *range(1, x.dim() - 1)) if channels_last and x.dim() > 2 else x


def to_last(x: Tensor, channels_last: bool = True) -> Tensor:
    """From (batch, channels, ...) to (batch, ..., channels); as it is where the channels are to stay first."""
    return x.permute(0, *range(2, x.dim()), 1) if channels_last and x.dim() > 2 else x


def moved(x: Tensor, source: int, destination: int) -> Tensor:
    """One axis, counted from the front, at another place."""
    order = [axis for axis in range(x.dim()) if axis != source]
    order.insert(destination, source)
    return x if source == destination else x.permute(order)


def floating(x: Tensor) -> Tensor:
    """Images and counts that come as integers, in floats, as every Keras layer that computes makes of them."""
    return x if x.is_floating_point() else x.float()
