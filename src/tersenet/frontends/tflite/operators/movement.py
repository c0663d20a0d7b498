"""Operators that put numbers elsewhere and compute nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tersenet.frontends.tflite.operators.convolution import FIRST, LAST
from tersenet.frontends.tflite.site import Part, Site, reshaped

MIRROR = {0: "reflect", 1: "symmetric"}


def reshape(site: Site) -> Part:
    """RESHAPE, SQUEEZE, EXPAND_DIMS: to the shape that the file gives the result."""
    return reshaped(site), (0,)


def transpose(site: Site) -> Part:
    order = site.numbers(1)
    return lambda value: value.permute(order), (0,)


def concat(site: Site) -> Part:
    axis, fused = site.options["axis"], site.fused
    return lambda *values: fused(torch.cat(values, axis)), tuple(range(len(site.operator.inputs)))


def pack(site: Site) -> Part:
    axis = site.options["axis"]
    return lambda *values: torch.stack(values, axis), tuple(range(len(site.operator.inputs)))


def unpack(site: Site) -> Part:
    axis = site.options["axis"]
    return lambda value: tuple(value.unbind(axis)), (0,)


def split(site: Site) -> Part:
    """SPLIT: the axis comes first."""
    (axis,) = site.numbers(0)
    sizes = [site.result(place).shape[axis] for place in range(len(site.operator.outputs))]
    return lambda value: tuple(value.split(sizes, axis)), (1,)


def split_by_sizes(site: Site) -> Part:
    (axis,) = site.numbers(2)
    sizes = [site.result(place).shape[axis] for place in range(len(site.operator.outputs))]
    return lambda value: tuple(value.split(sizes, axis)), (0,)


def pad(site: Site) -> Part:
    """PAD and PADV2."""
    pairs = site.numbers(1)
    value = float(site.weight(2)) if site.has(2) else 0.0
    amounts = [size for axis in reversed(range(len(pairs) // 2)) for size in pairs[2 * axis : 2 * axis + 2]]
    while len(amounts) > 2 and amounts[-2:] == [0, 0]:  # axes in front that stay as they are, the batch among them
        amounts = amounts[:-2]
    return lambda images: F.pad(images, amounts, value=value), (0,)


def mirror_pad(site: Site) -> Part:
    """MIRROR_PAD, by picking places: the edge itself is repeated (symmetric) or not (reflect)."""
    pairs, mode = site.numbers(1), MIRROR[site.options["mode"]]
    places = []
    for axis, size in enumerate(site.shape(0)):
        before, behind = pairs[2 * axis : 2 * axis + 2]
        shift = 1 if mode == "reflect" else 0
        front = [place + shift for place in reversed(range(before))]
        back = [size - 1 - shift - place for place in range(behind)]
        if before or behind:
            places.append((axis, torch.tensor([*front, *range(size), *back])))

    def picked(images: torch.Tensor) -> torch.Tensor:
        for axis, index in places:
            images = images.index_select(axis, index)
        return images

    return picked, (0,)


def _ranges(shape: tuple[int, ...], begin: list[int], sizes: list[int]) -> tuple[slice, ...]:
    """Whole axes stay whole, so that an open batch stays open."""
    return tuple(
        slice(None) if first == 0 and size in (-1, whole) else slice(first, whole if size == -1 else first + size)
        for whole, first, size in zip(shape, begin, sizes, strict=True)
    )


def cut(site: Site) -> Part:
    """SLICE."""
    parts = _ranges(site.shape(0), site.numbers(1), site.numbers(2))
    return lambda value: value[parts], (0,)


def strided_slice(site: Site) -> Part:
    """STRIDED_SLICE: masks say which beginnings and ends are those of the axis, and which axes vanish or are new."""
    held, shape = site.options, list(site.shape(0))
    begin, end, steps = site.numbers(1), site.numbers(2), site.numbers(3)
    if held["ellipsisMask"] or held["newAxisMask"] or held.get("offset"):
        raise site.refuse("ellipses, new axes and offsets in a slice are not read")
    parts: list[Any] = []
    for axis, (first, last, step) in enumerate(zip(begin, end, steps, strict=True)):
        size = shape[axis]
        if held["shrinkAxisMask"] >> axis & 1:
            parts.append(first % size)
            continue
        open_first, open_last = held["beginMask"] >> axis & 1, held["endMask"] >> axis & 1
        low, high, step = slice(None if open_first else first, None if open_last else last, step).indices(size)
        if step > 0:
            parts.append(slice(None) if (low, high, step) == (0, size, 1) else slice(low, high, step))
        else:
            parts.append(torch.arange(low, high, step))

    def taken(value: torch.Tensor) -> torch.Tensor:
        for axis in reversed(range(len(parts))):
            part = parts[axis]
            if isinstance(part, torch.Tensor):
                value = value.index_select(axis, part)
            elif isinstance(part, int):
                value = value.select(axis, part)
            elif part != slice(None):
                value = value[(slice(None),) * axis + (part,)]
        return value

    return taken, (0,)


class Gather(nn.Module):
    """GATHER and EMBEDDING_LOOKUP from a table of the file."""

    def __init__(self, table: torch.Tensor, axis: int) -> None:
        super().__init__()
        self.weight, self.axis = nn.Parameter(table), axis

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        if self.axis == 0 and self.weight.dim() == 2:
            return F.embedding(index.long(), self.weight)
        picked = self.weight.index_select(self.axis, index.long().reshape(-1))
        before, behind = self.weight.shape[: self.axis], self.weight.shape[self.axis + 1 :]
        return picked.reshape(*before, *index.shape, *behind)


def gather(site: Site) -> Part:
    """GATHER: along one axis."""
    axis = site.options.get("axis", 0)
    if site.options.get("batchDims"):
        return _gather_in_batch(site, site.options["batchDims"])
    if site.is_constant(0) and (site.tensor(0).numbers is not None or site.tensor(0).dtype.startswith("float")):
        return Gather(site.weight(0), axis), (1,)

    def pick(value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        picked = value.index_select(axis, index.long().reshape(-1))
        return picked.reshape(*value.shape[:axis], *index.shape, *value.shape[axis + 1 :])

    return pick, (0, 1)


def _gather_in_batch(site: Site, shared: int) -> Part:
    """Each sample picks among its own."""
    if site.options.get("axis", 0) != shared or len(site.shape(1)) != shared + 1:
        raise site.refuse("it picks within its batch along another axis than the next")

    def pick(value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        rest = value.shape[shared + 1 :]
        return value.gather(shared, index.long().reshape(*index.shape, *[1] * len(rest)).expand(*index.shape, *rest))

    return pick, (0, 1)


def embedding_lookup(site: Site) -> Part:
    """EMBEDDING_LOOKUP: indices come first."""
    return Gather(site.weight(1), 0), (0,)


def tile(site: Site) -> Part:
    times = site.numbers(1)
    return lambda value: value.repeat(times), (0,)


def broadcast(site: Site) -> Part:
    shape, batch = site.result().shape, site.batch

    def spread(value: torch.Tensor) -> torch.Tensor:
        keeps = len(shape) == value.dim() and bool(shape) and shape[0] == batch
        return value.expand(-1 if keeps else shape[0], *shape[1:])

    return spread, (0,)


def reverse(site: Site) -> Part:
    axes = site.numbers(1)
    return lambda value: value.flip(axes), (0,)


def depth_to_space(site: Site) -> Part:
    """DEPTH_TO_SPACE: the block's places are the slowest part of the channels here, the fastest in torch."""
    block = site.options["blockSize"]

    def spread(images: torch.Tensor) -> torch.Tensor:
        count, height, width, channels = images.shape
        parts = images.reshape(count, height, width, block, block, channels // (block * block)).permute(0, 1, 3, 2, 4, 5)
        return parts.reshape(count, height * block, width * block, channels // (block * block))

    return spread, (0,)


def space_to_depth(site: Site) -> Part:
    block = site.options["blockSize"]

    def gathered(images: torch.Tensor) -> torch.Tensor:
        count, height, width, channels = images.shape
        parts = images.reshape(count, height // block, block, width // block, block, channels).permute(0, 1, 3, 2, 4, 5)
        return parts.reshape(count, height // block, width // block, block * block * channels)

    return gathered, (0,)


def space_to_batch(site: Site) -> Part:
    """SPACE_TO_BATCH_ND, as old converters wrote dilated convolutions; only its moves are done, the batch grows."""
    blocks, pads = site.numbers(1), site.numbers(2)

    def gathered(images: torch.Tensor) -> torch.Tensor:
        amounts = [size for axis in reversed(range(len(blocks))) for size in pads[2 * axis : 2 * axis + 2]]
        images = F.pad(images.permute(FIRST), amounts).permute(LAST)
        count, height, width, channels = images.shape
        parts = images.reshape(count, height // blocks[0], blocks[0], width // blocks[1], blocks[1], channels).permute(2, 4, 0, 1, 3, 5)
        return parts.reshape(blocks[0] * blocks[1] * count, height // blocks[0], width // blocks[1], channels)

    if len(blocks) != 2:
        raise site.refuse("it is read for images alone (two blocks)")
    return gathered, (0,)


def batch_to_space(site: Site) -> Part:
    blocks, crops = site.numbers(1), site.numbers(2)
    if len(blocks) != 2:
        raise site.refuse("it is read for images alone (two blocks)")

    def spread(images: torch.Tensor) -> torch.Tensor:
        count, height, width, channels = images.shape
        parts = images.reshape(blocks[0], blocks[1], count // (blocks[0] * blocks[1]), height, width, channels).permute(2, 3, 0, 4, 1, 5)
        whole = parts.reshape(count // (blocks[0] * blocks[1]), height * blocks[0], width * blocks[1], channels)
        return whole[:, crops[0] : whole.shape[1] - crops[1], crops[2] : whole.shape[2] - crops[3]]

    return spread, (0,)


def one_hot(site: Site) -> Part:
    (depth,) = site.numbers(1)
    on, off = (float(site.weight(place)) for place in (2, 3))
    axis = site.options["axis"]
    if axis not in (-1, len(site.shape(0))):
        raise site.refuse("its new axis must be the last")
    return lambda index: (index.unsqueeze(-1) == torch.arange(depth)).to(torch.float32) * (on - off) + off, (0,)
