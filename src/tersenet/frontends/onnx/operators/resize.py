"""Resizing: torch's own operator where it computes the same, a product with a matrix of weights for each axis where it does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

LINEAR = {3: "linear", 4: "bilinear", 5: "trilinear"}
COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
    "tf_half_pixel_for_nn",
    "tf_crop_and_resize",
)
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@dataclass(frozen=True)
class Axis:
    """What becomes of one axis: its size, the new one, how much larger that is, and the part of it that is looked at."""

    size: int
    wanted: int
    scale: float
    start: float = 0.0
    end: float = 1.0


def upsample(node: Node, data: torch.Tensor, scales: Sequence[float] | None = None) -> torch.Tensor:
    """Before opset 10; nearest takes the number before, linear counts from the corner."""
    mode = {"nearest": "nearest", "linear": "linear", "bilinear": "linear"}.get(node.get("mode", "nearest"), "")
    plain = {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    given = node.get("scales") if scales is None else scales
    return resize(Node("Resize", "", 13, node.name, plain), data, None, given)


def resize(
    node: Node, data: torch.Tensor, roi: Sequence[float] | None = None, scales: Sequence[float] | None = None, sizes: Sequence[Any] | None = None
) -> torch.Tensor:
    if node.opset == 10:  # scales were the second input, and coordinates counted from the corner
        held = {"mode": node.get("mode", "nearest"), "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return resize(Node("Resize", "", 13, node.name, held), data, None, roi)
    axes = _axes(node, data, list(roi or ()), list(scales or ()), list(sizes or ()))
    changed = {place: axis for place, axis in axes.items() if axis.wanted != axis.size or axis.scale != 1 or _crops(node)}
    if not changed:
        return data
    mode = node.get("mode", "nearest")
    own = _by_torch(node, data, changed, mode)
    if own is not None:
        return own
    for place, axis in changed.items():
        data = _nearest(node, data, place, axis) if mode == "nearest" else _weighed(node, data, place, axis, mode)
    return data


def _crops(node: Node) -> bool:
    return node.get("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"


def _axes(node: Node, data: torch.Tensor, roi: list[float], scales: list[float], sizes: list[Any]) -> dict[int, Axis]:
    """Those that the node is about, by their places."""
    rank = data.dim()
    places = [axis % rank for axis in node.get("axes", range(rank))]
    if len(scales or sizes) != len(places):
        raise ModelError(f"it needs a scale or a size for each of {len(places)} axes, got {len(scales or sizes)}.")
    roi = roi or [0.0] * len(places) + [1.0] * len(places)
    found = {}
    policy = node.get("keep_aspect_ratio_policy", "stretch")
    if sizes and policy != "stretch":
        ratios = [wanted / data.shape[place] for place, wanted in zip(places, sizes, strict=True)]
        scale = min(ratios) if policy == "not_larger" else max(ratios)
        scales, sizes = [scale] * len(places), [math.floor(scale * data.shape[place] + 0.5) for place in places]
    for order, place in enumerate(places):
        size = data.shape[place]
        if not isinstance(size, int):
            if (scales and scales[order] == 1) or (not scales and str(sizes[order]) == str(size)):
                continue
            raise ModelError(f"axis {place} is open and is to be resized; only the batch can stay open.")
        wanted = int(sizes[order]) if sizes else math.floor(size * scales[order])
        scale = scales[order] if scales else wanted / size
        found[place] = Axis(size, wanted, scale, roi[order], roi[order + len(places)])
    return found


def _by_torch(node: Node, data: torch.Tensor, changed: dict[int, Axis], mode: str) -> torch.Tensor | None:
    """Where torch has the same coordinates, and images lie as it wants them."""
    coordinates = node.get("coordinate_transformation_mode", "half_pixel")
    if min(changed) < 2 or not 3 <= data.dim() <= 5 or node.get("antialias", 0) or node.get("exclude_outside", 0):
        return None
    spatial = {place: changed.get(place, Axis(data.shape[place], data.shape[place], 1.0)) for place in range(2, data.dim())}
    if any(not isinstance(axis.size, int) for axis in spatial.values()):
        return None
    exact = all(axis.wanted == axis.size * axis.scale or abs(axis.wanted / axis.size - axis.scale) < 1e-6 for axis in spatial.values())
    sizes = [axis.wanted for axis in spatial.values()]
    whole = all(axis.wanted % axis.size == 0 for axis in spatial.values()) and exact
    if mode == "nearest":
        rounding = node.get("nearest_mode", "round_prefer_floor")
        repeats = whole and ((coordinates == "asymmetric" and rounding == "floor") or (coordinates == "half_pixel" and rounding.startswith("round")))
        halves = coordinates == "asymmetric" and rounding == "floor" and exact
        return F.interpolate(data, sizes, mode="nearest") if repeats or halves else None
    kind = LINEAR[data.dim()] if mode == "linear" else "bicubic" if mode == "cubic" and data.dim() == 4 else ""
    if not kind or (kind == "bicubic" and node.get("cubic_coeff_a", -0.75) != -0.75) or not exact:
        return None
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and min(sizes) > 1):
        return F.interpolate(data, sizes, mode=kind, align_corners=False)
    return F.interpolate(data, sizes, mode=kind, align_corners=True) if coordinates == "align_corners" else None


def _coordinates(node: Node, axis: Axis) -> np.ndarray:
    """Of each new place in the old axis."""
    mode, places, wanted = node.get("coordinate_transformation_mode", "half_pixel"), np.arange(axis.wanted, dtype=np.float64), axis.scale * axis.size
    if mode not in COORDINATES:
        raise ModelError(f"coordinate_transformation_mode must be one of {', '.join(COORDINATES)}, got {mode[:40]!r}.")
    if mode == "align_corners":
        return places * (axis.size - 1) / (wanted - 1) if wanted != 1 else np.zeros_like(places)
    if mode == "asymmetric":
        return places / axis.scale
    if mode == "tf_half_pixel_for_nn":
        return (places + 0.5) / axis.scale
    if mode == "tf_crop_and_resize":
        last = axis.size - 1
        if wanted == 1:
            return np.full_like(places, (axis.end + axis.start) * last / 2)
        return axis.start * last + places * (axis.end - axis.start) * last / (wanted - 1)
    if mode == "pytorch_half_pixel" and wanted == 1:
        return np.full_like(places, -0.5)
    half = (places + 0.5) / axis.scale - 0.5
    return half + axis.size / 2 * (1 - axis.wanted / wanted) if mode == "half_pixel_symmetric" else half


def _nearest(node: Node, data: torch.Tensor, place: int, axis: Axis) -> torch.Tensor:
    coordinates, mode = _coordinates(node, axis), node.get("nearest_mode", "round_prefer_floor")
    if mode not in NEAREST:
        raise ModelError(f"nearest_mode must be one of {', '.join(NEAREST)}, got {mode[:40]!r}.")
    rounded = {
        "round_prefer_floor": np.ceil(coordinates - 0.5),
        "round_prefer_ceil": np.floor(coordinates + 0.5),
        "floor": np.floor(coordinates),
        "ceil": np.ceil(coordinates),
    }[mode]
    taken = data.index_select(place, torch.from_numpy(np.clip(rounded, 0, axis.size - 1).astype(np.int64)))
    return _outside_filled(node, taken, place, axis, coordinates)


def _weighed(node: Node, data: torch.Tensor, place: int, axis: Axis, mode: str) -> torch.Tensor:
    if mode not in ("linear", "cubic"):
        raise ModelError(f"mode must be nearest, linear or cubic, got {mode[:40]!r}.")
    coordinates = _coordinates(node, axis)
    matrix = torch.from_numpy(_matrix(node, axis, coordinates, mode).astype(np.float32))
    moved = torch.matmul(data.movedim(place, -1), matrix.t()).movedim(-1, place)
    return _outside_filled(node, moved, place, axis, coordinates)


def _matrix(node: Node, axis: Axis, coordinates: np.ndarray, mode: str) -> np.ndarray:
    """(wanted, size): weights of the old numbers in each new one; numbers beyond the ends are those at the ends, or left out."""
    squeezed = min(axis.scale, 1.0) if node.get("antialias", 0) else 1.0
    reach = 1 if mode == "linear" else 2
    start = math.floor(-reach / squeezed) + 1
    offsets = np.arange(start, start + 2 * (1 - start))
    first = np.floor(coordinates)
    distances = np.abs((offsets[None, :] - (coordinates - first)[:, None]) * squeezed)
    weights = np.clip(1 - distances, 0, 1) if mode == "linear" else _cubic(distances, node.get("cubic_coeff_a", -0.75))
    taken = first[:, None] + offsets[None, :]
    if node.get("exclude_outside", 0):
        weights = np.where((taken < 0) | (taken > axis.size - 1), 0, weights)
    if squeezed < 1 or node.get("exclude_outside", 0):
        weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((axis.wanted, axis.size))
    columns = np.clip(taken, 0, axis.size - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(axis.wanted)[:, None], columns), weights)
    return matrix


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    """Keys 1981, "Cubic Convolution Interpolation for Digital Image Processing", equation 4."""
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))


def _outside_filled(node: Node, data: torch.Tensor, place: int, axis: Axis, coordinates: np.ndarray) -> torch.Tensor:
    """Where a crop reaches beyond the image there is one number."""
    outside = (coordinates < 0) | (coordinates > axis.size - 1)
    if not _crops(node) or not outside.any():
        return data
    mask = torch.from_numpy(outside).reshape([-1 if axis_ == place else 1 for axis_ in range(data.dim())])
    return torch.where(mask, torch.tensor(node.get("extrapolation_value", 0.0)), data)
