"""Windows over images whose channels come last, and reductions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional as F

from tersenet.frontends.tflite.operators.convolution import FIRST, LAST, pad_list, sides_of
from tersenet.frontends.tflite.site import Part, Site


def _window(site: Site) -> tuple[tuple[int, int], tuple[int, int], list[tuple[int, int]]]:
    held = site.options
    window, stride = (held["filterHeight"], held["filterWidth"]), (held["strideH"], held["strideW"])
    return window, stride, sides_of(site, window, stride)


def average_pool(site: Site) -> Part:
    """AVERAGE_POOL_2D: the mean of what lies within the image."""
    window, stride, sides = _window(site)
    fused = site.fused
    height, width = site.shape(0)[1:3]
    counts = None
    padding = tuple(before for before, _ in sides)
    if any(before != behind for before, behind in sides):
        inside = F.pad(torch.ones(1, 1, height, width), pad_list(sides))
        counts, padding = window[0] * window[1] / F.avg_pool2d(inside, window, stride, divisor_override=1), (0, 0)

    def pool(images: torch.Tensor) -> torch.Tensor:
        images = images.permute(FIRST)
        if counts is None:
            return fused(F.avg_pool2d(images, window, stride, padding, count_include_pad=False).permute(LAST))
        return fused((F.avg_pool2d(F.pad(images, pad_list(sides)), window, stride) * counts).permute(LAST))

    return pool, (0,)


def max_pool(site: Site) -> Part:
    """MAX_POOL_2D."""
    window, stride, sides = _window(site)
    fused = site.fused
    even = all(before == behind and 2 * before <= size for (before, behind), size in zip(sides, window, strict=True))
    padding = tuple(before for before, _ in sides) if even else (0, 0)

    def pool(images: torch.Tensor) -> torch.Tensor:
        images = images.permute(FIRST)
        if not even:
            images = F.pad(images, pad_list(sides), value=-torch.inf)
        return fused(F.max_pool2d(images, window, stride, padding).permute(LAST))

    return pool, (0,)


def l2_pool(site: Site) -> Part:
    """L2_POOL_2D: the root of the mean of squares."""
    inner, places = average_pool(site)
    return lambda images: inner(images * images).sqrt(), places


def reduction(function: Callable[..., torch.Tensor]) -> Callable[[Site], Part]:
    """MEAN, SUM, REDUCE_MAX ...: over the axes that the second input names."""

    def convert(site: Site) -> Part:
        axes = sorted(axis % len(site.shape(0)) for axis in site.numbers(1))
        keep = bool(site.options.get("keepDims"))
        return lambda value: function(value, axes, keep), (0,)

    return convert


def product(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    """REDUCE_PROD, axis by axis."""
    for axis in reversed(axes):
        value = value.prod(axis, keepdim=keep)
    return value


def largest_index(function: Callable[..., torch.Tensor]) -> Callable[[Site], Part]:
    """ARG_MAX and ARG_MIN."""

    def convert(site: Site) -> Part:
        (axis,) = site.numbers(1)
        dtype = getattr(torch, site.result().dtype)
        return lambda value: function(value, axis).to(dtype), (0,)

    return convert


def resize(mode: str) -> Callable[[Site], Part]:
    """RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR, to the size that the file states."""

    def convert(site: Site) -> Part:
        size, before = tuple(site.result().shape[1:3]), tuple(site.shape(0)[1:3])
        corners, centers = bool(site.options["alignCorners"]), bool(site.options["halfPixelCenters"])
        columns = [_sampled(mode, old, new, corners, centers) for old, new in zip(before, size, strict=True)]

        def exact(images: torch.Tensor) -> torch.Tensor:
            images = images.permute(FIRST)
            if mode == "bilinear" and (corners or centers):
                return F.interpolate(images, size, mode="bilinear", align_corners=corners).permute(LAST)
            if mode == "nearest" and not corners and all(new % old == 0 for old, new in zip(before, size, strict=True)):
                return F.interpolate(images, size, mode="nearest").permute(LAST)
            rows, across = (matrix.to(images) for matrix in columns)
            return torch.matmul(torch.matmul(rows, images), across.transpose(0, 1)).permute(LAST)

        return exact, (0,)

    return convert


def _sampled(mode: str, old: int, new: int, corners: bool, centers: bool) -> torch.Tensor:
    """(new, old): how much each old place gives to each new one, as the reference kernels place them."""
    ratio = (old - 1) / (new - 1) if corners and new > 1 else old / new
    places = torch.arange(new, dtype=torch.float32)
    at = (places + 0.5) * ratio - (0.5 if mode == "bilinear" else 0.0) if centers else places * ratio
    matrix = torch.zeros(new, old)
    if mode == "nearest":
        index = (torch.floor(at + 0.5) if corners else torch.floor(at)).clamp(0, old - 1).long()
        matrix[torch.arange(new), index] = 1.0
        return matrix
    at = at.clamp(min=0)
    low = torch.floor(at).clamp(max=old - 1).long()
    high, part = (low + 1).clamp(max=old - 1), at - torch.floor(at)
    matrix.index_put_((torch.arange(new), low), 1 - part, accumulate=True)
    matrix.index_put_((torch.arange(new), high), part, accumulate=True)
    return matrix


def mean(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.mean(axes, keepdim=keep)


def total(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.sum(axes, keepdim=keep)


def largest(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.amax(axes, keepdim=keep)


def smallest(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.amin(axes, keepdim=keep)


def any_of(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.to(torch.int32).amax(axes, keepdim=keep).to(torch.bool)


def all_of(value: torch.Tensor, axes: list[int], keep: bool) -> torch.Tensor:
    return value.to(torch.int32).amin(axes, keepdim=keep).to(torch.bool)
