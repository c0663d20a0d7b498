"""Layers that only training feels: dropout and noise. In evaluation all are the identity."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import channels_last, input_shape, number, rate, title, value
from tersenet.frontends.keras.layers.order import to_first, to_last

NOISE_IS_LOST = "its noise is no operator of the graph; training what was loaded goes without it"
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


class SharedDropout(nn.Module):
    """Numbers along given axes are left out together in training.

    Args:
        shape: of the mask, 1 along axes that share; None for the size of the input.
    """

    notes = (NOISE_IS_LOST,)

    def __init__(self, rate: float, shape: list[int | None]) -> None:
        super().__init__()
        self.rate = rate
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        ones = x.new_ones([have if size is None else size for have, size in zip(x.shape, self.shape, strict=True)])
        return x * F.dropout(ones, self.rate, True)


def dropout(layer: Layer) -> nn.Module:
    """``Dropout``."""
    part, shape = rate(layer), value(layer, "noise_shape")
    if shape is None:
        return Dropout(part)
    rank = len(input_shape(layer))
    if not isinstance(shape, list | tuple) or len(shape) != rank or not all(size is None or isinstance(size, int) for size in shape):
        raise ModelError(f"noise_shape of {title(layer)} must be {rank} sizes, got {shape!r}.")
    return SharedDropout(part, [None if size == -1 else size for size in shape])


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


class Noise(nn.Module):
    """Gaussian noise is added in training."""

    notes = (NOISE_IS_LOST,)

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x) * self.deviation if self.training else x


def gaussian_noise(layer: Layer) -> nn.Module:
    """``GaussianNoise``."""
    return Noise(number(layer, "stddev"))


class GaussianDropout(Dropout):
    """Dropout of the same rate stands for a Gaussian factor: both have the mean 1 and the variance rate / (1 - rate).

    Reference: Srivastava et al. 2014, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", section 10.
    """

    notes = ("its Gaussian factor is a dropout of the same rate, mean and variance in later training",)


def gaussian_dropout(layer: Layer) -> nn.Module:
    """``GaussianDropout``."""
    part = rate(layer)
    if part == 1:
        raise ModelError(f"rate of {title(layer)} must be below 1.")
    return GaussianDropout(part)
