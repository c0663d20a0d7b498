"""Layers that change the size of an image: UpSampling, Resizing, CenterCrop, RandomCrop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tersenet.errors import ModelError
from tersenet.frontends.keras.layer import Layer
from tersenet.frontends.keras.layers.arguments import axis_size, channels_last, choice, flag, input_shape, number, sizes, title, whole
from tersenet.frontends.keras.layers.order import floating, to_first, to_last

LARGEST = 1 << 16  # pixels a side; more is a damaged configuration
# Why an interpolation is refused.
INEXACT = {
    "bicubic": "Keras computes it with a = -0.5 on TensorFlow and JAX and with a = -0.75 on torch, so that the file does not say what it is",
    "area": "no operator of torch weighs the pixels at the edges of an area as TensorFlow does",
    "lanczos3": "torch has no Lanczos interpolation",
    "lanczos5": "torch has no Lanczos interpolation",
    "gaussian": "torch has no Gaussian interpolation",
    "mitchellcubic": "torch has no Mitchell-Netravali interpolation",
}


class Repeated(nn.Module):
    """Each place of an axis several times in a row.

    Args:
        times: for each axis from `first` on.
    """

    def __init__(self, times: tuple[int, ...], first: int) -> None:
        super().__init__()
        self.times = times
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        for axis, times in enumerate(self.times, start=self.first):
            if times > 1:
                x = x.unsqueeze(axis + 1).expand(*[-1] * (axis + 1), times, *[-1] * (x.dim() - axis - 1)).flatten(axis, axis + 1)
        return x


class Enlarged(nn.Module):
    """An image a whole number of times as large.

    Args:
        mode: ``nearest`` or ``bilinear``.
    """

    def __init__(self, times: tuple[int, ...], mode: str, last: bool) -> None:
        super().__init__()
        self.times = times
        self.mode = mode
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        x = to_first(x, self.last)
        size = [length * times for length, times in zip(x.shape[2:], self.times, strict=True)]
        return to_last(F.interpolate(x, size, mode=self.mode, align_corners=False if self.mode == "bilinear" else None), self.last)


def upsampling1d(layer: Layer) -> nn.Module:
    """``UpSampling1D``."""
    input_shape(layer, 3)
    return Repeated(sizes(layer, "size", 1, 2), 1)


def upsampling2d(layer: Layer) -> nn.Module:
    """``UpSampling2D``."""
    input_shape(layer, 4)
    return Enlarged(sizes(layer, "size", 2, 2), _interpolation(layer, "nearest"), channels_last(layer))


def upsampling3d(layer: Layer) -> nn.Module:
    """``UpSampling3D``."""
    input_shape(layer, 5)
    return Repeated(sizes(layer, "size", 3, 2), 1 if channels_last(layer) else 2)


def _interpolation(layer: Layer, default: str) -> str:
    found = choice(layer, "interpolation", ("nearest", "bilinear", *INEXACT), default)
    if found in INEXACT:
        raise ModelError(f"interpolation={found!r} of {title(layer)} is not converted: {INEXACT[found]}.")
    return found


@dataclass(frozen=True)
class Frame:
    """What part of an image is resized, so that it has the shape of the target: rows and columns cut, or added (below zero).

    Args:
        top, left: cut before.
        height, width: that are left.
    """

    top: int
    left: int
    height: int
    width: int


def cropped(height: int, width: int, rows: int, columns: int) -> Frame:
    """The largest part of an image, in its middle, of the shape of rows x columns."""
    tall = max(min(height, int(float(width * rows) / columns)), 1)
    wide = max(min(width, int(float(height * columns) / rows)), 1)
    return Frame(int((height - tall) / 2), int((width - wide) / 2), tall, wide)


def framed(height: int, width: int, rows: int, columns: int) -> Frame:
    """The smallest frame around an image of the shape of rows x columns; as much is added on both sides, one less than asked for where it is odd."""
    above = int((max(height, int(float(width * rows) / columns)) - height) / 2)
    beside = int((max(width, int(float(height * columns) / rows)) - width) / 2)
    return Frame(-above, -beside, height + 2 * above, width + 2 * beside)


class Resized(nn.Module):
    """An image of another size, its pixels' centers in the middle of their squares.

    Args:
        frame: what part is taken, or what is added around, first.
        target: rows, columns.
        mode: ``nearest`` or ``bilinear``.
        fill: what is added.
    """

    def __init__(self, frame: Frame, target: tuple[int, int], mode: str, antialias: bool, fill: float, last: bool) -> None:
        super().__init__()
        self.frame = frame
        self.target = target
        self.mode = mode
        self.antialias = antialias
        self.fill = fill
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        return to_last(self.resized(self.framed(to_first(floating(x), self.last))), self.last)

    def framed(self, x: Tensor) -> Tensor:
        part = self.frame
        if min(part.top, part.left) < 0:
            return F.pad(x, [-part.left, -part.left, -part.top, -part.top], value=self.fill)
        for axis, first, length in ((2, part.top, part.height), (3, part.left, part.width)):
            x = x.narrow(axis, first, length) if x.shape[axis] != length else x
        return x

    def resized(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) == self.target:
            return x
        if self.mode == "bilinear":
            return F.interpolate(x, self.target, mode="bilinear", align_corners=False, antialias=self.antialias)
        if all(target % have == 0 for target, have in zip(self.target, x.shape[2:], strict=True)):
            return F.interpolate(x, self.target, mode="nearest")
        # The operator "nearest" of torch and of the runtimes takes other pixels than Keras where sizes do not divide.
        for axis, target in enumerate(self.target, start=2):
            length = x.shape[axis]
            x = x.index_select(axis, torch.tensor([int((place + 0.5) * length / target) for place in range(target)]))
        return x


def _image_sizes(layer: Layer) -> tuple[int, int]:
    shape, last = input_shape(layer, 4), channels_last(layer)
    return axis_size(layer, shape, 1 if last else 2), axis_size(layer, shape, 2 if last else 3)


def _target(layer: Layer) -> tuple[int, int]:
    found = (whole(layer, "height"), whole(layer, "width"))
    if max(found) > LARGEST:
        raise ModelError(f"{title(layer)} must make images of at most {LARGEST} pixels a side, got {found}.")
    return found


def resizing(layer: Layer) -> nn.Module:
    """``Resizing``."""
    have, target, mode = _image_sizes(layer), _target(layer), _interpolation(layer, "bilinear")
    crop, frame = flag(layer, "crop_to_aspect_ratio", False), flag(layer, "pad_to_aspect_ratio", False)
    if crop and frame:
        raise ModelError(f"{title(layer)} must not have both crop_to_aspect_ratio and pad_to_aspect_ratio.")
    choice(layer, "fill_mode", ("constant",), "constant")
    part = cropped(*have, *target) if crop else framed(*have, *target) if frame else Frame(0, 0, *have)
    return Resized(part, target, mode, flag(layer, "antialias", False), number(layer, "fill_value", 0.0), channels_last(layer))


def center_crop(layer: Layer) -> nn.Module:
    """``CenterCrop``; an image that is too small is resized after it is cut to the shape of the target."""
    (height, width), (rows, columns) = _image_sizes(layer), _target(layer)
    if height >= rows and width >= columns:
        part = Frame((height - rows) // 2, (width - columns) // 2, rows, columns)
    else:
        part = cropped(height, width, rows, columns)
    return Resized(part, (rows, columns), "bilinear", False, 0.0, channels_last(layer))


def random_crop(layer: Layer) -> nn.Module:
    """``RandomCrop`` of images that have its size: what it does to others in evaluation differs between Keras 2 and 3."""
    target = _target(layer)
    if _image_sizes(layer) != target:
        raise ModelError(
            f"{title(layer)} gets images of {_image_sizes(layer)} for its {target}: in evaluation Keras 2 resizes them and Keras 3 leaves them; "
            "take it out, or put Resizing or CenterCrop in its place."
        )
    return nn.Identity()
