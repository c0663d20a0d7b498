"""Taking and putting by index; a negative index counts from the end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensor

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

REDUCTIONS: Mapping[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


DEPENDS = "the shape of its result depends on the numbers in the data, so that only constants can go in"


def gather(node: Node, data: torch.Tensor, indices: torch.Tensor | int) -> torch.Tensor:
    """Rows of a table of weights are an embedding, whose tokens are counted from the start."""
    axis = node.get("axis", 0)
    axis = axis + data.dim() if axis < 0 else axis
    if not isinstance(indices, torch.Tensor):
        return data.select(axis, indices)
    if axis == 0 and data.dim() == 2 and isinstance(data, torch.nn.Parameter):
        return F.embedding(indices, data)
    places = indices.to(torch.int64)
    if not places.dim():  # torch takes the number out of an index without axes
        return torch.index_select(data, axis, _from_start(places, data.shape[axis]).unsqueeze(0)).squeeze(axis)
    return data[(slice(None),) * axis + (places,)]


def gather_elements(node: Node, data: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.get("axis", 0)
    return torch.gather(data, axis, _from_start(indices, data.shape[axis]))


def gather_nd(node: Node, data: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """The last axis of the indices says where, in the axes after those that count samples."""
    batch = node.get("batch_dims", 0)
    own = [_along(data.shape[axis], axis, indices.dim() - 1) for axis in range(batch)]
    return data[(*own, *indices.unbind(-1))]


def _along(size: int, axis: int, rank: int) -> torch.Tensor:
    """0, 1, 2 ... along one of many axes."""
    return torch.arange(size).reshape([-1 if at == axis else 1 for at in range(rank)])


def scatter_elements(node: Node, data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    axis, how = node.get("axis", 0), node.get("reduction", "none")
    places = _from_start(indices, data.shape[axis])
    if how == "none":
        return torch.scatter(data, axis, places, updates)
    return torch.scatter_reduce(data, axis, places, updates, _reduction(how))


def scatter_nd(node: Node, data: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor) -> torch.Tensor:
    how = node.get("reduction", "none")
    if how in {"none", "add"}:
        return data.index_put(indices.unbind(-1), updates, accumulate=how == "add")
    depth = indices.shape[-1]
    flat = data.reshape(math.prod(data.shape[:depth]), -1)
    places = sum(_from_start(part, data.shape[axis]) * math.prod(data.shape[axis + 1 : depth]) for axis, part in enumerate(indices.unbind(-1)))
    rows = updates.reshape(-1, flat.shape[1])
    spread = torch.as_tensor(places).reshape(-1, 1).expand(rows.shape)
    return torch.scatter_reduce(flat, 0, spread, rows, _reduction(how)).reshape(data.shape)


def _reduction(how: str) -> str:
    if how not in REDUCTIONS:
        raise ModelError(f"the attribute reduction must be none, add, mul, max or min, got {how!r}.")
    return REDUCTIONS[how]


def _from_start(indices: torch.Tensor, size: int) -> torch.Tensor:
    indices = indices.to(torch.int64)
    return torch.where(indices < 0, indices + size, indices)


def tensor_scatter(node: Node, past: torch.Tensor, update: torch.Tensor, start: torch.Tensor | None = None) -> torch.Tensor:
    """New steps into a cache of keys or values, each sample's from its own place on."""
    axis = node.get("axis", -2) % past.dim()
    places = torch.arange(update.shape[axis])
    if start is not None:
        places = start.unsqueeze(1) + places
    if node.get("mode", "linear") == "circular":
        places = places % past.shape[axis]
    rank_of_batch = places.dim() - 1
    shape = [*places.shape[:rank_of_batch], *[1] * (axis - rank_of_batch), -1, *[1] * (past.dim() - axis - 1)]
    return torch.scatter(past, axis, places.reshape(shape).expand(update.shape), update)


def one_hot(node: Node, indices: torch.Tensor, depth: Sequence[int], values: torch.Tensor) -> torch.Tensor:
    """The second value at the index, the first elsewhere; everywhere the first for an index outside."""
    axis = node.get("axis", -1)
    axis = axis + indices.dim() + 1 if axis < 0 else axis
    places = _along(depth[0], axis, indices.dim() + 1)
    return torch.where(_from_start(indices, depth[0]).unsqueeze(axis) == places, values[1], values[0])


def compress(node: Node, data: torch.Tensor, condition: Sequence[bool]) -> torch.Tensor:
    """Along an axis, or of all elements in a row."""
    if "axis" not in node.attributes:
        data = data.flatten()
    places = [place for place, kept in enumerate(condition) if kept]
    return torch.index_select(data, node.get("axis", 0), torch.tensor(places, dtype=torch.int64))


def non_zero(node: Node, data: torch.Tensor) -> torch.Tensor:
    """(axes, places) of a constant; with data its shape would not be known."""
    found = torch.nonzero(data).T
    count: Any = found.shape[1]
    if isinstance(count, torch.SymInt):
        raise ModelError(DEPENDS)
    return found


def unique(node: Node, data: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of a constant: its different values, where each is first, which each element is, how many there are; with data its shape would not be known."""
    if isinstance(data, FakeTensor) and data.fake_mode.shape_env is not None:
        raise ModelError(DEPENDS)
    axis = node.get("axis")
    rows = data.flatten() if axis is None else data
    along = 0 if axis is None else axis
    values, inverse, counts = torch.unique(rows, sorted=True, return_inverse=True, return_counts=True, dim=along)
    count = values.shape[along]
    first = torch.full((count,), inverse.numel()).scatter_reduce(0, inverse, torch.arange(inverse.numel()), "amin")
    if not node.get("sorted", 1):
        order = torch.argsort(first)
        values, first, counts = values.index_select(along, order), first[order], counts[order]
        inverse = torch.argsort(order)[inverse]
    return values, first, inverse, counts


def triangle(node: Node, data: torch.Tensor, diagonal: Sequence[int] | None = None) -> torch.Tensor:
    cut = torch.triu if node.get("upper", 1) else torch.tril
    return cut(data, diagonal[0] if diagonal else 0)
