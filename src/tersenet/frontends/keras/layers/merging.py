"""Layers that make one tensor of several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import flag, title, value
from tersenet.frontends.keras.layers.order import moved

Masks = Tensor | list[Tensor | None] | None  # one for the one tensor, or one for each
EPSILON = 1e-7  # of Keras, where it normalizes


class Merged(nn.Module):
    """Element by element; tensors of fewer axes get axes of size 1 behind the batch.

    Args:
        merge: two tensors -> one.
        mean: the result is divided by how many come in.
    """

    def __init__(self, merge: Callable[[Tensor, Tensor], Tensor], mean: bool = False) -> None:
        super().__init__()
        self.merge = merge
        self.mean = mean

    def forward(self, *tensors: Tensor) -> Tensor:
        result = reduce(self.merge, alike(tensors))
        return result / len(tensors) if self.mean else result

    def output_mask(self, *tensors: Tensor, mask: Masks = None) -> Tensor | None:
        return either(mask)


class MaskedProduct(Merged):
    """The product of what is not masked."""

    def forward(self, *tensors: Tensor, mask: Masks = None) -> Tensor:
        masks = _of_each(tensors, mask)
        ones = [x if own is None else torch.where(own.unsqueeze(-1), x, 1.0) for x, own in zip(tensors, masks, strict=True)]
        result, there = reduce(self.merge, alike(ones)), either(masks)
        return result if there is None else torch.where(there.unsqueeze(-1), result, 0.0)


class MaskedExtreme(Merged):
    """The largest or smallest of what is not masked."""

    def forward(self, *tensors: Tensor, mask: Masks = None) -> Tensor:
        first, *rest = zip(alike(tensors), _of_each(tensors, mask), strict=True)
        result, there = first
        for x, own in rest:
            x = x if own is None else torch.where(own.unsqueeze(-1), x, result)
            result = result if there is None else torch.where(there.unsqueeze(-1), result, x)
            there = there | own if there is not None and own is not None else None
            result = self.merge(result, x)
        return result


def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors with as many axes as the one that has most."""
    rank = max(x.dim() for x in tensors)
    return [x if x.dim() == rank else x.reshape(x.shape[0], *[1] * (rank - x.dim()), *x.shape[1:]) for x in tensors]


def either(mask: Masks) -> Tensor | None:
    """Where one mask or another is true; None where something has no mask."""
    masks = [mask] if isinstance(mask, Tensor) else mask or []
    known = [own for own in masks if own is not None]
    return reduce(torch.logical_or, known) if known and len(known) == len(masks) else None


def _of_each(tensors: Sequence[Tensor], mask: Masks) -> list[Tensor | None]:
    if mask is None:
        return [None] * len(tensors)
    return [mask] if isinstance(mask, Tensor) else mask


def add(layer: Layer) -> nn.Module:
    """``Add``."""
    return Merged(torch.add)


def average(layer: Layer) -> nn.Module:
    """``Average``."""
    return Merged(torch.add, mean=True)


def subtract(layer: Layer) -> nn.Module:
    """``Subtract``."""
    _exactly_two(layer)
    return Merged(torch.sub)


def multiply(layer: Layer) -> nn.Module:
    """``Multiply``."""
    return MaskedProduct(torch.mul)


def maximum(layer: Layer) -> nn.Module:
    """``Maximum``."""
    return MaskedExtreme(torch.maximum)


def minimum(layer: Layer) -> nn.Module:
    """``Minimum``."""
    return MaskedExtreme(torch.minimum)


class Concatenated(nn.Module):
    """One behind the other along an axis."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *tensors: Tensor) -> Tensor:
        return torch.cat(tensors, self.axis) if len(tensors) > 1 else tensors[0]

    def output_mask(self, *tensors: Tensor, mask: Masks = None) -> Tensor | None:
        masks = _of_each(tensors, mask)
        if all(own is None for own in masks):
            return None
        whole = [
            torch.ones_like(x, dtype=torch.bool) if own is None else own.unsqueeze(-1).expand_as(x) if own.dim() < x.dim() else own
            for x, own in zip(tensors, masks, strict=True)
        ]
        return torch.cat(whole, self.axis).any(-1)


def concatenate(layer: Layer) -> nn.Module:
    """``Concatenate``."""
    axis = value(layer, "axis", -1)
    ranks = {len(shape) for shape in layer.input_shapes}
    if len(ranks) != 1 or isinstance(axis, bool) or not isinstance(axis, int) or not -min(ranks) <= axis < min(ranks):
        raise ModelError(f"{title(layer)} must join tensors of as many axes along one of these, got axis {axis!r} of {layer.input_shapes}.")
    return Concatenated(axis)


class BatchDot(nn.Module):
    """Sums over one axis of each of two tensors, sample by sample.

    Args:
        axes: counted from the front.
        normalize: both are divided by their norm along these first, which makes it the cosine.
    """

    def __init__(self, axes: tuple[int, int], normalize: bool) -> None:
        super().__init__()
        self.axes = axes
        self.normalize = normalize

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x, y = (moved(each, axis, each.dim() - 1) for each, axis in zip((x, y), self.axes, strict=True))
        if self.normalize:
            x, y = (each / torch.linalg.vector_norm(each, 2, -1, keepdim=True).clamp_min(EPSILON) for each in (x, y))
        places = (*x.shape[1:-1], *y.shape[1:-1])
        left = x.unsqueeze(1) if x.dim() == 2 else x.flatten(1, -2)
        right = y.unsqueeze(1) if y.dim() == 2 else y.flatten(1, -2)
        return torch.matmul(left, right.transpose(1, 2)).reshape(x.shape[0], *(places or (1,)))


def dot(layer: Layer) -> nn.Module:
    """``Dot``."""
    _exactly_two(layer)
    ranks = [len(shape) for shape in layer.input_shapes]
    found: Any = value(layer, "axes")
    pair = list(found) if isinstance(found, list | tuple) else [found, found]
    if len(pair) != 2 or not all(isinstance(axis, int) and -rank <= axis < rank for axis, rank in zip(pair, ranks, strict=True)):
        raise ModelError(f"axes of {title(layer)} must be one axis of each input, got {found!r} for {layer.input_shapes}.")
    first, second = (axis % rank for axis, rank in zip(pair, ranks, strict=True))
    if 0 in (first, second):
        raise ModelError(f"axes of {title(layer)} must lie behind the batch, got {found!r}.")
    return BatchDot((first, second), flag(layer, "normalize", False))


def _exactly_two(layer: Layer) -> None:
    if len(layer.input_shapes) != 2:
        raise ModelError(f"{title(layer)} takes two tensors, got {len(layer.input_shapes)}.")
