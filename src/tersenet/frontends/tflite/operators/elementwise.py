"""Operators that treat each number alone, or two of them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

from tersenet.frontends.tflite.site import Part, Site


def unary(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Site], Part]:
    """One tensor in, one out."""
    return lambda site: (function, (0,))


def binary(function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[[Site], Part]:
    """Two tensors in, shapes broadcast, an activation behind."""

    def convert(site: Site) -> Part:
        fused = site.fused
        return lambda one, other: fused(function(one, other)), (0, 1)

    return convert


def softmax(site: Site) -> Part:
    """SOFTMAX over the last axis, its input times beta."""
    beta = float(site.options.get("beta", 1.0))
    return lambda value: torch.softmax(value if beta == 1 else value * beta, -1), (0,)


def leaky_relu(site: Site) -> Part:
    slope = float(site.options["alpha"])
    return lambda value: F.leaky_relu(value, slope), (0,)


def gelu(site: Site) -> Part:
    approximate = "tanh" if site.options["approximate"] else "none"
    return lambda value: F.gelu(value, approximate=approximate), (0,)


def prelu(site: Site) -> Part:
    """PRELU: one slope for each number of the last axes."""
    slope = nn.Parameter(site.weight(1))

    class Slopes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = slope

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return torch.where(value > 0, value, value * self.weight)

    return Slopes(), (0,)


def cast(site: Site) -> Part:
    """CAST, and DEQUANTIZE of float16: to the type that the file gives the result; integers on a grid are floats here."""
    result = site.result()
    dtype = torch.float32 if result.numbers is not None or result.dtype == "float16" else getattr(torch, result.dtype)
    return lambda value: value.to(dtype), (0,)


def select(site: Site) -> Part:
    return torch.where, (0, 1, 2)


def add_many(site: Site) -> Part:
    def total(*values: torch.Tensor) -> torch.Tensor:
        result = values[0]
        for value in values[1:]:
            result = result + value
        return result

    return total, tuple(range(len(site.operator.inputs)))


def l2_normalization(site: Site) -> Part:
    """L2_NORMALIZATION over the last axis."""
    fused = site.fused
    return lambda value: fused(value * torch.rsqrt((value * value).sum(-1, keepdim=True).clamp(min=1e-6))), (0,)


def local_response(site: Site) -> Part:
    """LOCAL_RESPONSE_NORMALIZATION over neighbouring channels; beta, alpha and bias as the schema has them (not divided by the window)."""
    held = site.options
    window, alpha, beta, bias = 2 * held["radius"] + 1, held["alpha"], held["beta"], held["bias"]

    def normalize(images: torch.Tensor) -> torch.Tensor:
        squares = F.pad(images * images, (held["radius"], held["radius"]))
        return images * (bias + alpha * squares.unfold(-1, window, 1).sum(-1)) ** -beta

    return normalize, (0,)


def cumulative_sum(site: Site) -> Part:
    (axis,) = site.numbers(1)
    exclusive, reverse = bool(site.options["exclusive"]), bool(site.options["reverse"])

    def run(value: torch.Tensor) -> torch.Tensor:
        turned = value.flip(axis) if reverse else value
        result = turned.cumsum(axis)
        result = result - turned if exclusive else result
        return result.flip(axis) if reverse else result

    return run, (0,)
