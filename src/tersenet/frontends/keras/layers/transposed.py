"""Transposed convolutions, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.activations import activation_of
from tersenet.frontends.keras.layers.arguments import channels_last, flag, parameter, sizes, title, variables, whole
from tersenet.frontends.keras.layers.convolution import Sliding, channels, sliding
from tersenet.frontends.keras.layers.order import to_first, to_last

OPERATORS: tuple[Callable[..., Tensor], ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)


def crop(kernel: int, stride: int, dilation: int, padding: str, extra: int | None) -> tuple[int, int]:
    """What Keras takes off the full result, (length - 1) * stride + reach, before and behind; below zero for what it adds.

    Args:
        extra: ``output_padding``; None for as much as gives length * stride (``same``) or no gap (``valid``).
    """
    reach = (kernel - 1) * dilation + 1
    if padding == "valid":
        return 0, -(max(reach, stride) - reach if extra is None else extra)
    total = stride + reach - 2 if extra is None else reach + reach % 2 - 2 + extra
    before = min(total - total // 2, reach - 1)
    return reach - 1 - before, reach - 1 - (total - before)


class TransposedConvolution(nn.Module):
    """A transposed convolution with its activation, in the order of axes of its source.

    torch takes the same off both sides, and may add behind; what Keras takes off behind beyond that is cut after it.

    Args:
        weight: (channels, filters, ...), as torch has it.
        crops: before and behind each axis.
        last: the channels are the last axis.
    """

    def __init__(self, weight: nn.Parameter, bias: nn.Parameter | None, how: Sliding, crops: Sequence[tuple[int, int]], last: bool) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.how = how
        self.padding = [before for before, _ in crops]
        self.added = [max(0, before - behind) for before, behind in crops]
        self.cut = [max(0, behind - before) for before, behind in crops]
        self.last = last
        self.activation: nn.Module = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        operator = OPERATORS[len(self.padding) - 1]
        x = operator(to_first(x, self.last), self.weight, self.bias, self.how.strides, self.padding, self.added, 1, self.how.dilation)
        for axis, off in enumerate(self.cut, start=2):
            x = x.narrow(axis, 0, x.shape[axis] - off) if off else x
        return self.activation(to_last(x, self.last))


def transposed(layer: Layer, rank: int) -> nn.Module:
    """``Conv1DTranspose``, ``Conv2DTranspose``, ``Conv3DTranspose``."""
    how = sliding(layer, rank, ("valid", "same"))
    extra: Sequence[int | None] = [None] * rank
    if layer.config.get("output_padding") is not None:
        extra = sizes(layer, "output_padding", rank, least=0)
        if any(added >= stride for added, stride in zip(extra, how.strides, strict=True) if added):
            raise ModelError(f"output_padding of {title(layer)} must be below its strides, got {extra} for {how.strides}.")
    crops = [crop(*each) for each in zip(how.kernel, how.strides, how.dilation, [how.padding] * rank, extra, strict=True)]
    filters, biased = whole(layer, "filters"), flag(layer, "use_bias", True)
    kernel, *bias = variables(layer, (*how.kernel, filters, channels(layer, rank)), *[(filters,)] * biased)
    weight = parameter(np.moveaxis(kernel, (-1, -2), (0, 1)))
    made = TransposedConvolution(weight, parameter(bias[0]) if biased else None, how, crops, channels_last(layer))
    made.activation = activation_of(layer)
    return made


def transposed1d(layer: Layer) -> nn.Module:
    """``Conv1DTranspose``."""
    return transposed(layer, 1)


def transposed2d(layer: Layer) -> nn.Module:
    """``Conv2DTranspose``."""
    return transposed(layer, 2)


def transposed3d(layer: Layer) -> nn.Module:
    """``Conv3DTranspose``."""
    return transposed(layer, 3)
