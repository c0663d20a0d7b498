"""Normalization: by batch, layer, group, norm; the wrapper that normalizes a kernel."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer, Shapes
from tersenet.frontends.keras.layers.arguments import axes, axis_size, flag, input_shape, number, parameter, tensor, title, value, variables
from tersenet.frontends.keras.layers.order import moved


class BatchNormalization(nn.modules.batchnorm._BatchNorm):
    """Batch norm over any one axis of a tensor of any rank.

    Args:
        channels: how many means and variances there are.
        axis: that they run along, counted from the front.
        momentum: of torch: the part of the new statistics, one less that of Keras.
    """

    def __init__(self, channels: int, axis: int, epsilon: float, momentum: float) -> None:
        super().__init__(channels, epsilon, momentum)
        self.axis = axis

    def _check_input_dim(self, input: Tensor) -> None:
        """Any rank will do."""

    def forward(self, x: Tensor) -> Tensor:
        return moved(super().forward(moved(x, self.axis, 1)), 1, self.axis)


def batch_normalization(layer: Layer) -> nn.Module:
    """``BatchNormalization``."""
    if value(layer, "renorm", False):
        raise ModelError(f"{title(layer)} has renorm=True, whose correction no runtime's batch norm has; it is not converted.")
    shape = input_shape(layer)
    found = axes(layer, "axis", len(shape))
    if len(found) != 1 or found == [0]:
        raise ModelError(f"axis of {title(layer)} must be one axis behind the batch, got {layer.config.get('axis')!r}.")
    channels, scale, center = axis_size(layer, shape, found[0]), flag(layer, "scale", True), flag(layer, "center", True)
    held = iter(variables(layer, *[(channels,)] * (scale + center + 2)))
    made = BatchNormalization(channels, found[0], number(layer, "epsilon", 1e-3), 1 - number(layer, "momentum", 0.99))
    made.weight = parameter(next(held)) if scale else None  # type: ignore[assignment]
    made.bias = parameter(next(held)) if center else None  # type: ignore[assignment]
    made.running_mean, made.running_var = tensor(next(held)), tensor(next(held))
    return made


class Normalized(nn.Module):
    """Layer norm or RMS norm over any axes: those are moved to the end, normalized, and moved back.

    Args:
        weight, bias: of the sizes of the axes.
        order: the axes of the input, those to normalize last.
        mean: the mean is taken off first.
    """

    def __init__(
        self, weight: nn.Parameter | None, bias: nn.Parameter | None, sizes: list[int], order: list[int], epsilon: float, mean: bool
    ) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.sizes = sizes
        self.order = order
        self.epsilon = epsilon
        self.mean = mean

    def forward(self, x: Tensor) -> Tensor:
        turns = self.order != sorted(self.order)
        x = x.permute(self.order) if turns else x
        if self.mean:
            x = F.layer_norm(x, self.sizes, self.weight, self.bias, self.epsilon)
        else:
            x = F.rms_norm(x, self.sizes, self.weight, self.epsilon)
        return x.permute([self.order.index(axis) for axis in range(x.dim())]) if turns else x


class VarianceScaled(nn.Module):
    """What Keras's layer norm does with ``rms_scaling``: x / sqrt(variance + epsilon) * weight, with x not centered.

    Args:
        weight: of the rank of the input.
    """

    def __init__(self, weight: nn.Parameter, axis: list[int], epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.axis = axis
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.var(self.axis, correction=0, keepdim=True) + self.epsilon) * self.weight


def layer_normalization(layer: Layer) -> nn.Module:
    """``LayerNormalization``."""
    shape = input_shape(layer)
    found = axes(layer, "axis", len(shape))
    sizes = [axis_size(layer, shape, axis) for axis in found]
    epsilon, scaled = number(layer, "epsilon", 1e-3), flag(layer, "rms_scaling", False)
    scale, center = flag(layer, "scale", True) or scaled, flag(layer, "center", True) and not scaled
    held = iter(variables(layer, *[tuple(sizes)] * (scale + center)))
    if scaled:
        spread = [axis_size(layer, shape, axis) if axis in found else 1 for axis in range(len(shape))]
        return VarianceScaled(parameter(next(held).reshape(spread)), found, epsilon)
    weight = parameter(next(held)) if scale else None
    return Normalized(weight, parameter(next(held)) if center else None, sizes, _to_the_end(found, len(shape)), epsilon, mean=True)


def rms_normalization(layer: Layer) -> nn.Module:
    """``RMSNormalization``."""
    shape = input_shape(layer)
    found = axes(layer, "axis", len(shape))
    sizes = [axis_size(layer, shape, axis) for axis in found]
    (weight,) = variables(layer, tuple(sizes))
    return Normalized(parameter(weight), None, sizes, _to_the_end(found, len(shape)), number(layer, "epsilon", 1e-6), mean=False)


def _to_the_end(found: list[int], rank: int) -> list[int]:
    return [axis for axis in range(rank) if axis not in found] + found


class GroupNormalization(nn.Module):
    """Mean and variance of each group of channels (Wu and He 2018)."""

    def __init__(self, weight: nn.Parameter | None, bias: nn.Parameter | None, groups: int, axis: int, epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.bias = bias
        self.groups = groups
        self.axis = axis
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return moved(F.group_norm(moved(x, self.axis, 1), self.groups, self.weight, self.bias, self.epsilon), 1, self.axis)


def group_normalization(layer: Layer) -> nn.Module:
    """``GroupNormalization``."""
    shape = input_shape(layer)
    found = axes(layer, "axis", len(shape))
    channels = axis_size(layer, shape, found[0])
    groups = int(number(layer, "groups", 32))
    groups = channels if groups == -1 else groups
    if len(found) != 1 or found == [0] or groups < 1 or channels % groups:
        raise ModelError(f"{title(layer)} must have groups that divide the {channels} channels of one axis, got {groups}.")
    scale, center = flag(layer, "scale", True), flag(layer, "center", True)
    held = iter(variables(layer, *[(channels,)] * (scale + center)))
    weight = parameter(next(held)) if scale else None
    return GroupNormalization(weight, parameter(next(held)) if center else None, groups, found[0], number(layer, "epsilon", 1e-3))


class UnitNormalization(nn.Module):
    """x / ||x||, over any axes."""

    def __init__(self, axis: list[int]) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        return x / torch.linalg.vector_norm(x, 2, self.axis, keepdim=True).clamp_min(1e-12)


def unit_normalization(layer: Layer) -> nn.Module:
    """``UnitNormalization``."""
    return UnitNormalization(axes(layer, "axis", len(input_shape(layer))))


def spectral_normalization(layer: Layer) -> nn.Module:
    """``SpectralNormalization``: the layer inside it, whose kernel each step of training has left normalized.

    Its own variables are the vector of the power iteration, which only training needs, and in some files the kernel once more.
    """
    shapes: Shapes = layer.input_shapes
    made = layer.inner(layer.config.get("layer"), "layer", shapes)
    made.notes = ("its kernel is normalized as training left it; later training does not normalize it again",)  # type: ignore[assignment]
    return made
