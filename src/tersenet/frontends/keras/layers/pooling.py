"""Pooling: over windows, to a given size, over all places."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import channels_last, choice, flag, input_shape, sizes
from tersenet.frontends.keras.layers.order import to_first, to_last
from tersenet.frontends.keras.layers.windows import same

MAXIMA: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d)
MEANS: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d)
ADAPTIVE_MAXIMA: tuple[Callable[..., Tensor], ...] = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
ADAPTIVE_MEANS: tuple[Callable[..., Tensor], ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)

MOST_PIECES = 64  # slices that adaptive pooling may be written as; above, it stays one operator


def pooled(x: Tensor, maximum: bool, window: Sequence[int], strides: Sequence[int], is_same: bool = False) -> Tensor:
    """The largest value or the mean of each window of (batch, channels, ...); what is padded counts for neither.

    torch pads both sides alike. Where ``same`` pads one more behind, a stride above one reaches it by rounding the number of windows up,
    and a stride of one by padding one more on both sides and leaving the first window out. Volumes are pooled as images and then along
    their depth, which is the same, and which every runtime can.
    """
    rank = len(window)
    if rank == 3:
        depth = x.shape[2]
        flat = pooled(x.flatten(1, 2), maximum, window[1:], strides[1:], is_same)
        columns = flat.unflatten(1, (-1, depth)).flatten(3)
        return pooled(columns, maximum, (window[0], 1), (strides[0], 1), is_same).unflatten(3, flat.shape[2:])
    sides = same(x.shape[2:], window, strides, (1,) * rank) if is_same else [(0, 0)] * rank
    left_out = [stride == 1 and before != behind for stride, (before, behind) in zip(strides, sides, strict=True)]
    padding = [behind if out else before for out, (before, behind) in zip(left_out, sides, strict=True)]
    up = any(before != behind for (before, behind), out in zip(sides, left_out, strict=True) if not out)
    if maximum:
        x = MAXIMA[rank - 1](x, window, strides, padding, ceil_mode=up)
    else:
        x = MEANS[rank - 1](x, window, strides, padding, ceil_mode=up, count_include_pad=not (up or any(padding)))
    for axis, out in enumerate(left_out, start=2):
        x = x.narrow(axis, 1, x.shape[axis] - 1) if out else x
    return x


class Pooling(nn.Module):
    """The largest value or the mean of each window.

    Args:
        last: the channels are the last axis.
    """

    def __init__(self, maximum: bool, window: tuple[int, ...], strides: tuple[int, ...], is_same: bool, last: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.window = window
        self.strides = strides
        self.is_same = is_same
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return to_last(pooled(to_first(x, self.last), self.maximum, self.window, self.strides, self.is_same), self.last)


def _pooling(layer: Layer, rank: int, maximum: bool) -> nn.Module:
    input_shape(layer, rank + 2)
    window = sizes(layer, "pool_size", rank, 2)
    is_same = choice(layer, "padding", ("valid", "same"), "valid") == "same"
    return Pooling(maximum, window, sizes(layer, "strides", rank, window), is_same, channels_last(layer))


def divided(x: Tensor, maximum: bool, output_size: Sequence[int]) -> Tensor:
    """The largest value or the mean of windows of uneven sizes that cover (batch, channels, ...), axis by axis: runtimes have no operator for it."""
    for axis, count in enumerate(output_size, start=2):
        have = x.shape[axis]
        edges = [(have * place // count, -(-have * (place + 1) // count)) for place in range(count)]
        pieces = [x.narrow(axis, first, last - first) for first, last in edges]
        x = torch.cat([piece.amax(axis, keepdim=True) if maximum else piece.mean(axis, keepdim=True) for piece in pieces], axis)
    return x


class Adaptive(nn.Module):
    """The largest value or the mean of as many windows as are asked for."""

    def __init__(self, maximum: bool, output_size: tuple[int, ...], last: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.operator = (ADAPTIVE_MAXIMA if maximum else ADAPTIVE_MEANS)[len(output_size) - 1]
        self.output_size = output_size
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = to_first(x, self.last)
        pairs = list(zip(x.shape[2:], self.output_size, strict=True))
        if all(isinstance(have, int) and have % want == 0 for have, want in pairs):  # every runtime has plain windows
            window = [have // want for have, want in pairs]
            return to_last(pooled(x, self.maximum, window, window), self.last)
        if sum(self.output_size) <= MOST_PIECES and all(isinstance(have, int) for have, _ in pairs):
            return to_last(divided(x, self.maximum, self.output_size), self.last)
        return to_last(self.operator(x, self.output_size), self.last)


def _adaptive(layer: Layer, rank: int, maximum: bool) -> nn.Module:
    input_shape(layer, rank + 2)
    return Adaptive(maximum, sizes(layer, "output_size", rank), channels_last(layer))


class Global(nn.Module):
    """The largest value or the mean of all places."""

    def __init__(self, maximum: bool, axes: list[int], keep: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.axes = axes
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(self.axes, keepdim=self.keep) if self.maximum else x.mean(self.axes, keepdim=self.keep)


class MaskedMean(nn.Module):
    """The mean of all steps of a sequence, or of those whose mask is true."""

    def __init__(self, axis: int, keep: bool) -> None:
        super().__init__()
        self.axis = axis
        self.keep = keep

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return x.mean(self.axis, keepdim=self.keep)
        there = mask.unsqueeze(3 - self.axis)
        count = there.to(x.dtype).sum(self.axis, keepdim=self.keep)
        return torch.where(there, x, 0.0).sum(self.axis, keepdim=self.keep) / count


def _global(layer: Layer, rank: int, maximum: bool) -> nn.Module:
    input_shape(layer, rank + 2)
    first = 1 if channels_last(layer) else 2
    keep = flag(layer, "keepdims", False)
    return MaskedMean(first, keep) if rank == 1 and not maximum else Global(maximum, list(range(first, first + rank)), keep)


def max1d(layer: Layer) -> nn.Module:
    """``MaxPooling1D``."""
    return _pooling(layer, 1, True)


def max2d(layer: Layer) -> nn.Module:
    """``MaxPooling2D``."""
    return _pooling(layer, 2, True)


def max3d(layer: Layer) -> nn.Module:
    """``MaxPooling3D``."""
    return _pooling(layer, 3, True)


def mean1d(layer: Layer) -> nn.Module:
    """``AveragePooling1D``."""
    return _pooling(layer, 1, False)


def mean2d(layer: Layer) -> nn.Module:
    """``AveragePooling2D``."""
    return _pooling(layer, 2, False)


def mean3d(layer: Layer) -> nn.Module:
    """``AveragePooling3D``."""
    return _pooling(layer, 3, False)


def adaptive_max1d(layer: Layer) -> nn.Module:
    """``AdaptiveMaxPooling1D``."""
    return _adaptive(layer, 1, True)


def adaptive_max2d(layer: Layer) -> nn.Module:
    """``AdaptiveMaxPooling2D``."""
    return _adaptive(layer, 2, True)


def adaptive_max3d(layer: Layer) -> nn.Module:
    """``AdaptiveMaxPooling3D``."""
    return _adaptive(layer, 3, True)


def adaptive_mean1d(layer: Layer) -> nn.Module:
    """``AdaptiveAveragePooling1D``."""
    return _adaptive(layer, 1, False)


def adaptive_mean2d(layer: Layer) -> nn.Module:
    """``AdaptiveAveragePooling2D``."""
    return _adaptive(layer, 2, False)


def adaptive_mean3d(layer: Layer) -> nn.Module:
    """``AdaptiveAveragePooling3D``."""
    return _adaptive(layer, 3, False)


def global_max1d(layer: Layer) -> nn.Module:
    """``GlobalMaxPooling1D``."""
    return _global(layer, 1, True)


def global_max2d(layer: Layer) -> nn.Module:
    """``GlobalMaxPooling2D``."""
    return _global(layer, 2, True)


def global_max3d(layer: Layer) -> nn.Module:
    """``GlobalMaxPooling3D``."""
    return _global(layer, 3, True)


def global_mean1d(layer: Layer) -> nn.Module:
    """``GlobalAveragePooling1D``."""
    return _global(layer, 1, False)


def global_mean2d(layer: Layer) -> nn.Module:
    """``GlobalAveragePooling2D``."""
    return _global(layer, 2, False)


def global_mean3d(layer: Layer) -> nn.Module:
    """``GlobalAveragePooling3D``."""
    return _global(layer, 3, False)
