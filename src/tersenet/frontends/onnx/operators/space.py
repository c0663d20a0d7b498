"""Images: padding, blocks of pixels as channels, sampling at given places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

# ONNX's name -> torch's, and numpy's.
MODES = {"reflect": ("reflect", "reflect"), "edge": ("replicate", "edge"), "wrap": ("circular", "wrap")}


def pad(
    node: Node,
    data: torch.Tensor,
    given: Sequence[Any] | None = None,
    value: Sequence[Any] | None = None,
    axes: Sequence[int] | None = None,
) -> torch.Tensor:
    """Pads and the number are attributes before opset 11; pads of less than nothing cut."""
    pads = list(node.get("pads", node.get("paddings", ())) if given is None else given)
    filled = node.get("value", 0.0) if value is None else value[0]
    places = [axis % data.dim() for axis in axes] if axes is not None else list(range(data.dim()))
    if len(pads) != 2 * len(places):
        raise ModelError(f"it needs two numbers for each of {len(places)} axes, got {len(pads)}.")
    before, after = [0] * data.dim(), [0] * data.dim()
    for order, place in enumerate(places):
        before[place], after[place] = pads[order], pads[order + len(places)]
    mode = node.get("mode", "constant")
    sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
    while len(sides) > 2 and _is_zero(sides[-1]) and _is_zero(sides[-2]):
        sides = sides[:-2]
    if all(_is_zero(side) for side in sides):
        return data
    if mode == "constant":
        return F.pad(data, sides, value=filled)
    if mode not in MODES:
        raise ModelError(f"mode must be constant, {', '.join(MODES)}, got {mode[:40]!r}.")
    return _repeated(data, before, after, sides, mode)


def _is_zero(size: Any) -> bool:
    return isinstance(size, int) and size == 0


def _repeated(data: torch.Tensor, before: list[int], after: list[int], sides: list[int], mode: str) -> torch.Tensor:
    cut = len(sides) // 2
    fits = cut <= data.dim() - 2 and cut <= 3 and min(sides) >= 0 and data.is_floating_point()
    if fits and all(isinstance(size, int) and max(before[axis], after[axis]) < size for axis, size in enumerate(data.shape) if axis > 1):
        spatial = sides + [0] * (2 * (data.dim() - 2) - len(sides))
        return F.pad(data, spatial, mode=MODES[mode][0])
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        if low or high:
            if not isinstance(data.shape[axis], int):
                raise ModelError(f"axis {axis} is open, and is to be padded with its own numbers; only the batch can stay open.")
            places = np.pad(np.arange(data.shape[axis]), (max(low, 0), max(high, 0)), mode=MODES[mode][1])  # type: ignore[call-overload]
            places = places[max(-low, 0) : len(places) - max(-high, 0)]
            data = data.index_select(axis, torch.from_numpy(places))
    return data


def depth_to_space(node: Node, data: torch.Tensor) -> torch.Tensor:
    size, mode = node.get("blocksize"), node.get("mode", "DCR")
    if mode == "CRD":
        return F.pixel_shuffle(data, size)
    batch, channels, height, width = data.shape
    blocks = data.reshape(batch, size, size, channels // size**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(batch, channels // size**2, height * size, width * size)


def space_to_depth(node: Node, data: torch.Tensor) -> torch.Tensor:
    size, (batch, channels, height, width) = node.get("blocksize"), data.shape
    if node.get("mode", "DCR") == "CRD":
        return F.pixel_unshuffle(data, size)
    blocks = data.reshape(batch, channels, height // size, size, width // size, size).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(batch, channels * size**2, height // size, width // size)


def grid_sample(node: Node, data: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "bilinear"), node.get("mode", "bilinear"))
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ModelError(f"mode must be linear, nearest or cubic, got {mode[:40]!r}.")
    if mode == "bicubic" and data.dim() != 4:
        raise ModelError("cubic sampling is there for images of two axes.")
    return F.grid_sample(data, grid, mode, node.get("padding_mode", "zeros"), bool(node.get("align_corners", 0)))


def affine_grid(node: Node, theta: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    return F.affine_grid(theta, list(size), bool(node.get("align_corners", 0)))
