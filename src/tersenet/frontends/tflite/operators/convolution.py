"""Convolutions and products with weights; images have their channels last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tersenet.frontends.tflite.site import Part, Site

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SAME = 0  # the schema's Padding
Sides = tuple[int, int]


def same_sides(size: int, extent: int, stride: int) -> Sides:
    """What padding SAME puts before and behind an axis: the result has ceil(size / stride) places."""
    total = max((-(-size // stride) - 1) * stride + extent - size, 0)
    return total // 2, total - total // 2


def sides_of(site: Site, extent: Sequence[int], stride: Sequence[int]) -> list[Sides]:
    """The padding of height and width."""
    if site.options["padding"] != SAME:
        return [(0, 0)] * len(extent)
    sizes = site.shape(0)[1 : 1 + len(extent)]
    return [same_sides(*axis) for axis in zip(sizes, extent, stride, strict=True)]


def pad_list(sides: Sequence[Sides]) -> list[int]:
    """As `torch.nn.functional.pad` takes it: the last axis first."""
    return [size for pair in reversed(sides) for size in pair]


class Convolution(nn.Module):
    """A convolution of torch's, whose channels come first, on images whose channels come last.

    Args:
        weight: (outputs, inputs of a group, height, width), or with a depth before the height.
        sides: padding of each of these axes.
        options: stride, dilation, groups, as torch's function names them.
    """

    def __init__(self, site: Site, weight: torch.Tensor, sides: Sequence[Sides], options: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.contiguous())
        bias = site.bias(2, 1)
        self.bias = None if bias is None else nn.Parameter(bias)
        even = all(before == behind for before, behind in sides)
        self.uneven = [] if even else pad_list(sides)
        self.options = {**options, "padding": [before if even else 0 for before, _ in sides]}
        self.fused = site.fused

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rank = images.dim()
        images = images.permute(0, rank - 1, *range(1, rank - 1))
        if self.uneven:
            images = F.pad(images, self.uneven)
        convolve = F.conv2d if rank == 4 else F.conv3d
        return self.fused(convolve(images, self.weight, self.bias, **self.options).permute(0, *range(2, rank), 1))


def _convolution(site: Site, weight: torch.Tensor, groups: int) -> Part:
    held = site.options
    axes = "DHW" if weight.dim() == 5 else "HW"
    stride, dilation = [held[f"stride{axis}"] for axis in axes], [held[f"dilation{axis}Factor"] for axis in axes]
    extent = [step * (size - 1) + 1 for step, size in zip(dilation, weight.shape[2:], strict=True)]
    return Convolution(site, weight, sides_of(site, extent, stride), {"stride": stride, "dilation": dilation, "groups": groups}), (0,)


def convolution(site: Site) -> Part:
    """CONV_2D: weights (outputs, height, width, inputs of a group)."""
    weight = site.weight(1).permute(0, 3, 1, 2)
    inputs = site.shape(0)[3]
    if weight.shape[1] == 0 or inputs % weight.shape[1]:
        raise site.refuse(f"its weights are for {weight.shape[1]} channels, its input has {inputs}")
    return _convolution(site, weight, inputs // weight.shape[1])


def convolution_of_volumes(site: Site) -> Part:
    """CONV_3D: weights (depth, height, width, inputs, outputs)."""
    return _convolution(site, site.weight(1).permute(4, 3, 0, 1, 2), 1)


def depthwise_convolution(site: Site) -> Part:
    """DEPTHWISE_CONV_2D: weights (1, height, width, outputs), outputs of one channel side by side."""
    return _convolution(site, site.weight(1).permute(3, 0, 1, 2), site.shape(0)[3])


class TransposedConvolution(nn.Module):
    """TRANSPOSE_CONV: what the whole result has too much is cut off, what it lacks is added."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.weight = nn.Parameter(site.weight(1).permute(3, 0, 1, 2).contiguous())
        bias = site.weight(3) if site.has(3) else None
        self.bias = None if bias is None else nn.Parameter(bias)
        self.stride, self.fused = [site.options["strideH"], site.options["strideW"]], site.fused
        wanted, same = site.result().shape[1:3], site.options["padding"] == SAME
        self.padding, self.extra = [], []
        for size, step, extent, want in zip(site.shape(2)[1:3], self.stride, self.weight.shape[2:], wanted, strict=True):
            whole = (size - 1) * step + extent
            before = max(whole - want, 0) // 2 if same else 0
            more = want - (whole - 2 * before)
            if more < 0 and same:  # one more is cut off behind than before: torch cuts both, and adds one
                before, more = before + 1, more + 2
            if not 0 <= more < step:
                raise site.refuse(f"its result cannot have {want} places")
            self.padding.append(before)
            self.extra.append(more)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        made = F.conv_transpose2d(images.permute(FIRST), self.weight, self.bias, self.stride, self.padding, self.extra)
        return self.fused(made.permute(LAST))


def transposed_convolution(site: Site) -> Part:
    """TRANSPOSE_CONV: inputs (shape of the result, weights (outputs, height, width, inputs), images)."""
    return TransposedConvolution(site), (2,)


class Linear(nn.Linear):
    """FULLY_CONNECTED: everything but the weights' columns is the batch, unless the axes are kept."""

    def __init__(self, site: Site) -> None:
        weight = site.weight(1)
        with torch.device("meta"):
            super().__init__(weight.shape[1], weight.shape[0], bias=False)
        self.weight, bias = nn.Parameter(weight), site.bias(2, 1)
        self.bias = None if bias is None else nn.Parameter(bias)  # type: ignore[assignment]
        self.keeps, self.fused = bool(site.options.get("keepNumDims")), site.fused

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        if not self.keeps and value.dim() != 2:
            value = value.reshape(-1, self.in_features)
        return self.fused(super().forward(value))


# The axis of a layer's weight that outputs lie along, and the scales of integers with them.
OUTPUTS: Mapping[type, int] = {Convolution: 0, Linear: 0, TransposedConvolution: 1}


def linear(site: Site) -> Part:
    """FULLY_CONNECTED, with weights of the file or computed ones."""
    if site.options.get("weightsFormat", 0):
        raise site.refuse("its weights are shuffled for one kind of kernel")
    if site.is_constant(1):
        return Linear(site), (0,)
    fused, bias = site.fused, site.bias(2, 1)
    return lambda value, weight: fused(F.linear(value, weight, bias)), (0, 1)


def matmul(site: Site) -> Part:
    """BATCH_MATMUL: either side may be transposed first."""
    left, right = site.options["adjX"], site.options["adjY"]
    turned = {True: lambda value: value.transpose(-1, -2), False: lambda value: value}
    return lambda one, other: torch.matmul(turned[bool(left)](one), turned[bool(right)](other)), (0, 1)
