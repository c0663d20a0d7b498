"""Layers that only training feels: dropout and noise. In evaluation all are the identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.annotations import Noise
from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import channels_last, input_shape, number, rate, title, value
from tersenet.frontends.keras.layers.order import to_first, to_last
from tersenet.graph.marks import mark
from tersenet.numerics.regularization import noisy

OF_CHANNELS: dict[int, Callable[..., Tensor]] = {3: F.dropout1d, 4: F.dropout2d, 5: F.dropout3d}


class Dropout(nn.Module):
    """Each number is left out with the probability `rate` in training (Srivastava et al. 2014)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.rate, self.training)


class ChannelDropout(nn.Module):
    """Whole channels are left out in training (Tompson et al. 2015)."""

    def __init__(self, rate: float, last: bool) -> None:
        super().__init__()
        self.rate = rate
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        dropped = OF_CHANNELS[x.dim()](to_first(x, self.last), self.rate, self.training)
        return to_last(dropped, self.last)


class Noisy(nn.Module):
    """Noise in training; in evaluation a mark that tells which.

    Args:
        noise: what is done.
    """

    number: int | None = None  # of the mark

    def __init__(self, noise: Noise) -> None:
        super().__init__()
        self.noise = noise

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            return noisy(x, self.noise.kind, self.noise.amount, self.noise.shared)
        return x if self.number is None else mark(x, self.number)


def watch(module: nn.Module, number: int) -> None:
    """Leave a mark at whatever a layer returns, for what its output costs in training."""

    def marked(_: nn.Module, __: Any, result: Any) -> Any:
        if isinstance(result, tuple | list):
            return type(result)(marked(_, __, part) for part in result)
        return mark(result, number) if isinstance(result, Tensor) and result.is_floating_point() else result

    module.register_forward_hook(marked)  # no module around it: parameters keep their names


def dropout(layer: Layer) -> nn.Module:
    """``Dropout``."""
    part, shape = rate(layer), value(layer, "noise_shape")
    if shape is None:
        return Dropout(part)
    rank = len(input_shape(layer))
    if not isinstance(shape, list | tuple) or len(shape) != rank or not all(size is None or isinstance(size, int) for size in shape):
        raise ModelError(f"noise_shape of {title(layer)} must be {rank} sizes, got {shape!r}.")
    return Noisy(Noise("dropout", part, tuple(axis for axis, size in enumerate(shape) if size == 1)))


def _spatial(layer: Layer, rank: int) -> nn.Module:
    input_shape(layer, rank + 2)
    return ChannelDropout(rate(layer), rank == 1 or channels_last(layer))


def spatial_dropout1d(layer: Layer) -> nn.Module:
    """``SpatialDropout1D``."""
    return _spatial(layer, 1)


def spatial_dropout2d(layer: Layer) -> nn.Module:
    """``SpatialDropout2D``."""
    return _spatial(layer, 2)


def spatial_dropout3d(layer: Layer) -> nn.Module:
    """``SpatialDropout3D``."""
    return _spatial(layer, 3)


class AlphaDropout(nn.Module):
    """Dropout that keeps mean and variance of a SELU network (Klambauer et al. 2017, section 3)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        return F.alpha_dropout(x, self.rate, self.training)


def alpha_dropout(layer: Layer) -> nn.Module:
    """``AlphaDropout``."""
    if value(layer, "noise_shape") is not None:
        raise ModelError(f"{title(layer)} has a noise_shape, which torch's alpha dropout has not; it is not converted.")
    return AlphaDropout(rate(layer))


def gaussian_noise(layer: Layer) -> nn.Module:
    """``GaussianNoise``."""
    return Noisy(Noise("add", number(layer, "stddev")))


def gaussian_dropout(layer: Layer) -> nn.Module:
    """``GaussianDropout``: a factor of the mean 1 and the variance rate / (1 - rate)."""
    part = rate(layer)
    if part == 1:
        raise ModelError(f"rate of {title(layer)} must be below 1.")
    return Noisy(Noise("factor", math.sqrt(part / (1 - part))))
