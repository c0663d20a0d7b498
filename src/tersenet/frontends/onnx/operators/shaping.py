"""Shapes: what leaves the numbers as they are and gives them other axes, or other places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.creation import check_size

Size = int | torch.SymInt


def reshape(node: Node, data: torch.Tensor, shape: Sequence[Size]) -> torch.Tensor:
    """A zero stands for the size that the axis has, unless the node allows zeros."""
    if node.get("allowzero", 0):
        return data.reshape(tuple(shape))
    return data.reshape([_kept(data, axis) if isinstance(size, int) and size == 0 else size for axis, size in enumerate(shape)])


def _kept(data: torch.Tensor, axis: int) -> Size:
    if axis >= data.dim():
        raise ModelError(f"Reshape keeps axis {axis} as it is, and the tensor has {data.dim()} axes.")
    return data.shape[axis]


def flatten(node: Node, data: torch.Tensor) -> torch.Tensor:
    """Two axes: all before `axis`, and all from it on."""
    axis = node.get("axis", 1)
    axis = axis + data.dim() if axis < 0 else axis
    if axis == 1 and data.dim() > 1:
        return torch.flatten(data, 1)
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def squeeze(node: Node, data: torch.Tensor, given: Sequence[int] | None = None) -> torch.Tensor:
    """Axes are an attribute before opset 13; none means all of size 1."""
    axes = node.get("axes") if given is None else given
    if axes is None:
        axes = [axis for axis, size in enumerate(data.shape) if isinstance(size, int) and size == 1]
    return data.squeeze(tuple(axes)) if axes else data


def unsqueeze(node: Node, data: torch.Tensor, given: Sequence[int] | None = None) -> torch.Tensor:
    """Axes are places in the result, in any order."""
    axes = node.get("axes", ()) if given is None else given
    rank = data.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        data = data.unsqueeze(axis)
    return data


def transpose(node: Node, data: torch.Tensor) -> torch.Tensor:
    return data.permute(tuple(node.get("perm", range(data.dim())[::-1])))


def expand(node: Node, data: torch.Tensor, shape: Sequence[Size]) -> torch.Tensor:
    """Broadcasting both ways: where the shape asks for 1 the tensor keeps what it has."""
    own = [1] * (len(shape) - data.dim()) + list(data.shape)
    asked = [1] * (data.dim() - len(shape)) + list(shape)
    return data.expand([had if isinstance(size, int) and size == 1 else size for had, size in zip(own, asked, strict=True)])


def tile(node: Node, data: torch.Tensor, repeats: Sequence[Size]) -> torch.Tensor:
    check_size(node, [*repeats, *data.shape])
    return data.repeat(tuple(repeats))


def concat(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    return torch.cat(inputs, node.get("axis", 1))


def split(node: Node, data: torch.Tensor, given: Sequence[int] | None = None) -> tuple[torch.Tensor, ...]:
    """Sizes are an attribute before opset 13; without them parts are equal, and the last is smaller where they cannot be."""
    axis = node.get("axis", 0)
    sizes = node.get("split") if given is None else given
    if sizes is None:
        parts = node.get("num_outputs", node.outputs)
        step = -(-data.shape[axis] // parts)
        ends = [min(step * part, data.shape[axis]) for part in range(parts + 1)]
        sizes = [end - start for start, end in itertools.pairwise(ends)]
    return torch.split(data, list(sizes), axis)


def slice_(
    node: Node,
    data: torch.Tensor,
    starts: Sequence[Size] | None = None,
    ends: Sequence[Size] | None = None,
    axes: Sequence[int] | None = None,
    steps: Sequence[int] | None = None,
) -> torch.Tensor:
    """Starts, ends and axes are attributes before opset 10. What lies outside is cut, as Python does."""
    starts = node.get("starts", ()) if starts is None else starts
    ends = node.get("ends", ()) if ends is None else ends
    axes = node.get("axes", range(len(starts))) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        if step == 0:
            raise ModelError("the step of a Slice must not be zero.")
        if step < 0:  # place i of the tensor is place -(i + 1) of the flipped one, for places from the front and from the back alike
            data, start, end, step = data.flip(axis), -(start + 1), -(end + 1), -step
        data = data[(slice(None),) * (axis % data.dim()) + (slice(start, end, step),)]
    return data


def center_crop_pad(node: Node, data: torch.Tensor, shape: Sequence[Size]) -> torch.Tensor:
    """Cut or filled with zeros on both sides; the odd one goes to the end."""
    for axis, wanted in zip(node.get("axes", range(data.dim())), shape, strict=True):
        axis, had = axis % data.dim(), data.shape[axis]
        if had > wanted:
            data = data.narrow(axis, (had - wanted) // 2, wanted)
        elif had < wanted:
            before = (wanted - had) // 2
            data = torch.nn.functional.pad(data, (0, 0) * (data.dim() - 1 - axis) + (before, wanted - had - before))
    return data


def reverse_sequence(node: Node, data: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Each sample's own first steps, turned round; what comes after its length stays."""
    batch_axis, time_axis = node.get("batch_axis", 1), node.get("time_axis", 0)
    batch_first = data.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(batch_first.shape[1])
    turned = torch.where(steps < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - steps, steps)
    places = turned.reshape(*turned.shape, *[1] * (data.dim() - 2)).expand(batch_first.shape)
    return torch.gather(batch_first, 1, places).movedim((0, 1), (batch_axis, time_axis))
