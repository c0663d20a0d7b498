"""Layers that move, repeat, cut and pad, and compute nothing."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import channels_last, input_shape, title, value, whole
from tersenet.frontends.keras.layers.order import to_last

Pairs = list[tuple[int, int]]


class Reshaped(nn.Module):
    """Another shape behind the batch; one size may be -1."""

    def __init__(self, target: list[int]) -> None:
        super().__init__()
        self.target = target

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *self.target)


def reshape(layer: Layer) -> nn.Module:
    """``Reshape``."""
    found = value(layer, "target_shape")
    if not isinstance(found, list | tuple) or not all(
        size is None or (isinstance(size, int) and not isinstance(size, bool) and size >= -1) for size in found
    ):
        raise ModelError(f"target_shape of {title(layer)} must be sizes, one of which may be -1; got {found!r}.")
    target = [-1 if size is None else size for size in found]
    if target.count(-1) > 1:
        raise ModelError(f"target_shape of {title(layer)} may leave one size open, got {found!r}.")
    held = input_shape(layer)[1:]
    if None not in held:
        total, known = math.prod(size for size in held if size is not None), math.prod(size for size in target if size != -1)
        if total != known if -1 not in target else not known or total % known:
            raise ModelError(f"{title(layer)} cannot bring {tuple(held)} to the shape {tuple(target)}: {total} values are not {known}.")
        target = [total // known if size == -1 else size for size in target]
    return Reshaped(target)


class Flattened(nn.Module):
    """All axes behind the batch in one, the channels counting fastest."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return to_last(x, not self.last).flatten(1) if x.dim() > 1 else x.unsqueeze(1)


def flatten(layer: Layer) -> nn.Module:
    """``Flatten``; with the channels first it puts them last before."""
    return Flattened(channels_last(layer))


class Permuted(nn.Module):
    """Axes in another order."""

    def __init__(self, order: list[int]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def permute(layer: Layer) -> nn.Module:
    """``Permute``, whose axes count from 1."""
    found = value(layer, "dims", [])
    if not isinstance(found, list | tuple) or sorted(found) != list(range(1, len(input_shape(layer)))):
        raise ModelError(f"dims of {title(layer)} must be each axis of {input_shape(layer)} behind the batch once, got {found!r}.")
    return Permuted([0, *found])


class RepeatedVector(nn.Module):
    """(batch, features) -> (batch, times, features)."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze(1).expand(-1, self.times, -1)


def repeat_vector(layer: Layer) -> nn.Module:
    """``RepeatVector``."""
    input_shape(layer, 2)
    return RepeatedVector(whole(layer, "n"))


class Cropped(nn.Module):
    """Axes cut at both ends.

    Args:
        pairs: how much is cut before and behind, of each axis from `first` on.
    """

    def __init__(self, pairs: Pairs, first: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        for axis, (before, behind) in enumerate(self.pairs, start=self.first):
            x = x.narrow(axis, before, x.shape[axis] - before - behind) if before or behind else x
        return x


class Padded(nn.Module):
    """Zeros at both ends of axes.

    Args:
        pairs: how many before and behind, of each axis from `first` on.
    """

    def __init__(self, pairs: Pairs, first: int) -> None:
        super().__init__()
        self.pairs = pairs
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        untouched = x.dim() - self.first - len(self.pairs)
        return F.pad(x, [0, 0] * untouched + [side for pair in reversed(self.pairs) for side in pair])


def _pairs(layer: Layer, name: str, rank: int) -> Pairs:
    """Two numbers for each axis; one number stands for both, and one for all axes."""
    found = value(layer, name, 1)
    if rank == 1 and isinstance(found, list | tuple) and len(found) == 2 and all(isinstance(part, int) for part in found):
        found = [found]
    parts = list(found) if isinstance(found, list | tuple) else [found] * rank
    pairs = [tuple(part) if isinstance(part, list | tuple) else (part, part) for part in parts]
    if len(pairs) != rank or not all(
        len(pair) == 2 and all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in pair) for pair in pairs
    ):
        raise ModelError(f"{name} of {title(layer)} must be two whole numbers for each of {rank} axes, got {found!r}.")
    return [(pair[0], pair[1]) for pair in pairs]


def _cropping(layer: Layer, rank: int) -> nn.Module:
    shape, pairs, first = input_shape(layer, rank + 2), _pairs(layer, "cropping", rank), 1 if rank == 1 or channels_last(layer) else 2
    for axis, pair in enumerate(pairs, start=first):
        size = shape[axis]
        if size is not None and sum(pair) >= size:
            raise ModelError(f"cropping of {title(layer)} must leave something of axis {axis}: {pair} of {size}.")
    return Cropped(pairs, first)


def _zero_padding(layer: Layer, rank: int) -> nn.Module:
    input_shape(layer, rank + 2)
    return Padded(_pairs(layer, "padding", rank), 1 if channels_last(layer) else 2)


def cropping1d(layer: Layer) -> nn.Module:
    """``Cropping1D``."""
    return _cropping(layer, 1)


def cropping2d(layer: Layer) -> nn.Module:
    """``Cropping2D``."""
    return _cropping(layer, 2)


def cropping3d(layer: Layer) -> nn.Module:
    """``Cropping3D``."""
    return _cropping(layer, 3)


def zero_padding1d(layer: Layer) -> nn.Module:
    """``ZeroPadding1D``."""
    return _zero_padding(layer, 1)


def zero_padding2d(layer: Layer) -> nn.Module:
    """``ZeroPadding2D``."""
    return _zero_padding(layer, 2)


def zero_padding3d(layer: Layer) -> nn.Module:
    """``ZeroPadding3D``."""
    return _zero_padding(layer, 3)
