"""Layers that are an activation: Activation, ReLU, LeakyReLU, PReLU, ELU, Softmax."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.activations import Function, activation_of, relu
from tersenet.frontends.keras.layers.arguments import axes, input_shape, number, parameter, variables
from tersenet.frontends.keras.layers.order import moved

MASKED = -1e9  # what Keras puts where a mask is false


def activation(layer: Layer) -> nn.Module:
    """``Activation``."""
    return activation_of(layer)


def rectifier(layer: Layer) -> nn.Module:
    """``ReLU``."""
    limit = None if layer.config.get("max_value") is None else number(layer, "max_value")
    return Function(partial(relu, negative_slope=number(layer, "negative_slope", 0.0), max_value=limit, threshold=number(layer, "threshold", 0.0)))


def leaky(layer: Layer) -> nn.Module:
    """``LeakyReLU``; Keras 2 calls its slope alpha."""
    return Function(partial(F.leaky_relu, negative_slope=number(layer, "alpha" if "alpha" in layer.config else "negative_slope", 0.3)))


def elu(layer: Layer) -> nn.Module:
    """``ELU``."""
    return Function(partial(F.elu, alpha=number(layer, "alpha", 1.0)))


def thresholded(layer: Layer) -> nn.Module:
    """``ThresholdedReLU`` of Keras 2: x above theta, 0 below."""
    return Function(partial(relu, threshold=number(layer, "theta", 1.0)))


class Slopes(nn.Module):
    """Parametric ReLU: x above zero, weight * x below (He et al. 2015, equation 1).

    Args:
        weight: of the shape of the input without the batch, 1 along axes that share.
    """

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        own = [axis for axis, size in enumerate(weight.shape, start=1) if size > 1]
        self.axis = (own or [1])[0] if len(own) < 2 else None
        self.weight = weight if self.axis is None else nn.Parameter(weight.detach().reshape(-1))

    def forward(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return F.relu(x) - self.weight * F.relu(-x)
        return moved(F.prelu(moved(x, self.axis, 1), self.weight), 1, self.axis)


def parametric(layer: Layer) -> nn.Module:
    """``PReLU``."""
    given = layer.config.get("shared_axes")
    shape: tuple[int | None, ...]
    if layer.input_shapes:
        whole = input_shape(layer)
        shared = axes(layer, "shared_axes", len(whole)) if given else []
        shape = tuple(1 if axis in shared else whole[axis] for axis in range(1, len(whole)))
    else:  # the activation of another layer, whose output's shape is not known here
        shape = tuple(None for _ in layer.weights.own[0].shape) if layer.weights.own else (None,)
    return Slopes(parameter(variables(layer, shape)[0]))


class Softmax(nn.Module):
    """Softmax over one axis or several, zero where a mask is false."""

    def __init__(self, axis: list[int]) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if mask is None:
            return self.over_axes(x)
        return torch.where(mask, self.over_axes(torch.where(mask, x, MASKED)), 0.0)

    def over_axes(self, x: Tensor) -> Tensor:
        if len(self.axis) == 1:
            return F.softmax(x, self.axis[0])
        exponents = torch.exp(x - x.amax(self.axis, keepdim=True))
        return exponents / exponents.sum(self.axis, keepdim=True)


def softmax(layer: Layer) -> nn.Module:
    """``Softmax``."""
    if not layer.input_shapes:  # the activation of another layer
        return Softmax([int(number(layer, "axis", -1))])
    return Softmax(axes(layer, "axis", len(input_shape(layer))))
