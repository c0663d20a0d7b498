"""Preprocessing with a fixed meaning: rescaling, normalization, contrast; augmentation, which evaluation does not feel; chains of these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from tersenet.errors import ModelError
from tersenet.frontends.keras.config import described
from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.layers.arguments import array, axes, axis_size, flag, input_shape, tensor, title, value, variables
from tersenet.frontends.keras.layers.order import floating
from tersenet.frontends.keras.weights import of_layers

EPSILON = 1e-7  # of Keras: the least deviation


class Affine(nn.Module):
    """x * scale + offset."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        return floating(x) * self.scale + self.offset


class Standardized(nn.Module):
    """(x - mean) / deviation."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        return (floating(x) - self.mean) / self.deviation


def rescaling(layer: Layer) -> nn.Module:
    """``Rescaling``."""
    return Affine(tensor(array(layer, "scale")), tensor(array(layer, "offset")) if value(layer, "offset") is not None else torch.zeros(()))


def normalization(layer: Layer) -> nn.Module:
    """``Normalization``: by the mean and variance of its configuration, or those that it learned from data."""
    shape = input_shape(layer)
    rank = len(shape)
    kept = axes(layer, "axis", rank) if layer.config.get("axis", -1) not in (None, [], ()) else []
    spread = [axis_size(layer, shape, axis) if axis in kept else 1 for axis in range(rank)]
    sizes = tuple(spread[axis] for axis in kept)
    if value(layer, "mean") is not None:
        mean, variance = (_broadcast(layer, array(layer, name), kept, spread) for name in ("mean", "variance"))
    else:
        learned = variables(layer, sizes, sizes, *[()] * (len(layer.weights.own) == 3))  # and how many samples there were
        mean, variance = (found.reshape(spread) for found in learned[:2])
    deviation = np.maximum(np.sqrt(variance), np.float32(EPSILON))
    if flag(layer, "invert", False):
        return Affine(tensor(deviation), tensor(mean))
    return Standardized(tensor(mean), tensor(deviation))


def _broadcast(layer: Layer, found: np.ndarray, kept: list[int], spread: list[int]) -> np.ndarray:
    """A given mean or variance, whose axes are the last ones of those that are kept."""
    if found.ndim > len(kept):
        if found.ndim == len(spread):
            return found
        raise ModelError(f"the mean and variance of {title(layer)} must have at most {len(kept)} axes, got {found.shape}.")
    laid = [1] * len(spread)
    for axis, size in zip(reversed(kept), reversed(found.shape), strict=False):
        laid[axis] = size
    return found.reshape(laid)


def augmentation(layer: Layer) -> nn.Module:
    """Layers that change images at random in training, and in evaluation give them as floats."""
    return AsFloats()


class AsFloats(nn.Module):
    """The same numbers, in floats."""

    notes = ("it changes images in training only; training what was loaded goes without it",)

    def forward(self, x: Tensor) -> Tensor:
        return floating(x)


class AutoContrast(nn.Module):
    """Each channel of each image stretched to the whole range, save where it has one value only.

    Args:
        low, high: the range.
    """

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low = low
        self.high = high

    def forward(self, x: Tensor) -> Tensor:
        x = floating(x)
        scaled = (x - self.low) / (self.high - self.low) * 255
        least, most = scaled.amin((1, 2), keepdim=True), scaled.amax((1, 2), keepdim=True)
        stretch = 255 / torch.where(most > least, most - least, 1.0)
        result = (scaled * stretch - least * stretch).clamp(0, 255) / 255 * (self.high - self.low) + self.low
        return torch.where(most > least, result, x)


def auto_contrast(layer: Layer) -> nn.Module:
    """``AutoContrast``, which works in evaluation too."""
    input_shape(layer, 4)
    limits = array(layer, "value_range") if value(layer, "value_range") is not None else np.array([0.0, 255.0])
    if limits.shape != (2,) or limits[0] >= limits[1]:
        raise ModelError(f"value_range of {title(layer)} must be two rising numbers, got {limits.tolist()}.")
    return AutoContrast(float(limits[0]), float(limits[1]))


def pipeline(layer: Layer) -> nn.Module:
    """``Pipeline``: layers in a row, whose shapes follow from one another."""
    entries = value(layer, "layers", [])
    if not isinstance(entries, list):
        raise ModelError(f"layers of {title(layer)} must be a list.")
    inside = Weights((), {"layers": layer.weights.children.get("_pipeline_layers", Weights())})
    held = of_layers(inside, [described(entry).kind for entry in entries])
    made: list[nn.Module] = []
    shape = input_shape(layer)
    for entry, weights in zip(entries, held, strict=True):
        one = replace(layer, weights=Weights((), {"layer": weights})).inner(entry, "layer", (shape,))
        made.append(one.eval())
        shape = _shape_after(one, shape)
    return nn.Sequential(*made)


def _shape_after(module: nn.Module, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """The shape of what a layer gives, worked out without numbers; the batch stays open."""
    if None in shape[1:]:
        raise ModelError(f"a Pipeline needs images of a known size, got the shape {shape}.")
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        given = torch.zeros([2 if size is None else size for size in shape])
        return (None, *module(given).shape[1:])
