"""Convolutions: plain, depthwise, separable; in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.activations import activation_of
from tersenet.frontends.keras.layers.arguments import axis_size, channels_last, choice, flag, input_shape, parameter, sizes, title, variables, whole
from tersenet.frontends.keras.layers.order import to_first, to_last
from tersenet.frontends.keras.layers.windows import padded, same

OPERATORS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class Sliding:
    """How a kernel slides.

    Args:
        padding: ``valid``, ``same``, or ``causal`` (all of it before).
        kernel, strides, dilation: one number for each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def pad(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """The input, padded as far as the operator cannot, and what is left for it."""
        if self.padding == "same":
            return padded(x, same(x.shape[2:], self.kernel, self.strides, self.dilation))
        if self.padding == "causal":
            return padded(x, [((self.kernel[0] - 1) * self.dilation[0], 0)])
        return x, [0] * len(self.kernel)


class Convolution(nn.Module):
    """A convolution with its activation, in the order of axes of its source.

    Args:
        weight: (filters, channels / groups, ...), as torch has it.
        last: the channels are the last axis.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, sliding: Sliding, groups: int, last: bool) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.sliding = sliding
        self.groups = groups
        self.last = last
        self.activation: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x, padding = self.sliding.pad(to_first(x, self.last))
        operator = OPERATORS[len(padding) - 1]
        result = operator(x, self.weight, self.bias, self.sliding.strides, padding, self.sliding.dilation, self.groups)
        return self.activation(to_last(result, self.last))


class Separable(nn.Module):
    """A depthwise convolution and then a pointwise one (Chollet 2017)."""

    def __init__(self, depthwise: Convolution, pointwise: Convolution, activation: nn.Module, last: bool) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.pointwise = pointwise
        self.activation = activation
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(to_last(self.pointwise(self.depthwise(to_first(x, self.last))), self.last))


def turned(kernel: np.ndarray) -> np.ndarray:
    """A kernel of Keras, (..., inputs, outputs), as torch has it: (outputs, inputs, ...)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def spread_out(kernel: np.ndarray) -> np.ndarray:
    """A depthwise kernel of Keras, (..., channels, multiplier), as torch has it: (channels * multiplier, 1, ...)."""
    return turned(kernel.reshape(*kernel.shape[:-2], 1, -1))


def sliding(layer: Layer, rank: int, paddings: Sequence[str]) -> Sliding:
    """How a layer's kernel slides, as its configuration has it."""
    found = Sliding(
        sizes(layer, "kernel_size", rank),
        sizes(layer, "strides", rank, 1),
        sizes(layer, "dilation_rate", rank, 1),
        choice(layer, "padding", paddings, "valid"),
    )
    if max(found.strides) > 1 and max(found.dilation) > 1 and layer.kind.startswith("Conv"):
        raise ModelError(f"{title(layer)} must not have strides and a dilation above 1 at once.")
    return found


def channels(layer: Layer, rank: int) -> int:
    """How many channels come in."""
    return axis_size(layer, input_shape(layer, rank + 2), -1 if channels_last(layer) else 1)


def convolution(layer: Layer, rank: int) -> nn.Module:
    """``Conv1D``, ``Conv2D``, ``Conv3D``."""
    how = sliding(layer, rank, ("valid", "same", "causal") if rank == 1 else ("valid", "same"))
    inputs, filters, groups = channels(layer, rank), whole(layer, "filters"), whole(layer, "groups", 1)
    if inputs % groups or filters % groups:
        raise ModelError(f"{title(layer)} has {groups} groups, which must divide its {inputs} channels and {filters} filters.")
    kernel, bias = _kernel_and_bias(layer, (*how.kernel, inputs // groups, filters), filters)
    made = Convolution(parameter(turned(kernel)), bias, how, groups, channels_last(layer))
    made.activation = activation_of(layer)
    return made


def depthwise(layer: Layer, rank: int) -> nn.Module:
    """``DepthwiseConv1D``, ``DepthwiseConv2D``."""
    how = sliding(layer, rank, ("valid", "same"))
    inputs, multiplier = channels(layer, rank), whole(layer, "depth_multiplier", 1)
    kernel, bias = _kernel_and_bias(layer, (*how.kernel, inputs, multiplier), inputs * multiplier)
    made = Convolution(parameter(spread_out(kernel)), bias, how, inputs, channels_last(layer))
    made.activation = activation_of(layer)
    return made


def separable(layer: Layer, rank: int) -> nn.Module:
    """``SeparableConv1D``, ``SeparableConv2D``."""
    how = sliding(layer, rank, ("valid", "same", "causal") if rank == 1 else ("valid", "same"))
    inputs, multiplier, filters = channels(layer, rank), whole(layer, "depth_multiplier", 1), whole(layer, "filters")
    inside, ones, biased = inputs * multiplier, (1,) * rank, flag(layer, "use_bias", True)
    first, second, *bias = variables(layer, (*how.kernel, inputs, multiplier), (*ones, inside, filters), *[(filters,)] * biased)
    return Separable(
        Convolution(parameter(spread_out(first)), None, how, inputs, last=False),
        Convolution(parameter(turned(second)), parameter(bias[0]) if biased else None, Sliding(ones, ones, ones, "valid"), 1, last=False),
        activation_of(layer),
        channels_last(layer),
    )


def _kernel_and_bias(layer: Layer, shape: tuple[int, ...], filters: int) -> tuple[np.ndarray, Any]:
    biased = flag(layer, "use_bias", True)
    kernel, *bias = variables(layer, shape, *[(filters,)] * biased)
    return kernel, parameter(bias[0]) if biased else None


def conv1d(layer: Layer) -> nn.Module:
    """``Conv1D``."""
    return convolution(layer, 1)


def conv2d(layer: Layer) -> nn.Module:
    """``Conv2D``."""
    return convolution(layer, 2)


def conv3d(layer: Layer) -> nn.Module:
    """``Conv3D``."""
    return convolution(layer, 3)


def depthwise1d(layer: Layer) -> nn.Module:
    """``DepthwiseConv1D``."""
    return depthwise(layer, 1)


def depthwise2d(layer: Layer) -> nn.Module:
    """``DepthwiseConv2D``."""
    return depthwise(layer, 2)


def separable1d(layer: Layer) -> nn.Module:
    """``SeparableConv1D``."""
    return separable(layer, 1)


def separable2d(layer: Layer) -> nn.Module:
    """``SeparableConv2D``."""
    return separable(layer, 2)
