"""Values put around others, and channels and positions put in each other's place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, shape_of
from tersenet.targets.litert.layout import channels_last, stored
from tersenet.targets.litert.lowering import Lowering, Stored
from tersenet.targets.litert.operators.convolution import without_pad
from tersenet.targets.litert.operators.elementwise import rounded_to_grid
from tersenet.targets.litert.operators.movement import cut


def pad(low: Lowering, node: fx.Node) -> None:
    """Constant or mirrored values around; negative amounts cut off."""
    arguments = bind(node)
    source = arguments["self"]
    rank = len(shape_of(source))
    amounts = [int(amount) for amount in arguments["pad" if "pad" in arguments else "padding"]]
    mode = arguments.get("mode") or ("reflect" if kind_of(node) == "reflection_pad" else "constant")
    if len(node.users) == 1 and _absorbed(low, node):
        return
    value = low.read(node, source, position=0)
    table = [(0, 0)] * rank
    for index in range(len(amounts) // 2):
        table[rank - 1 - index] = (amounts[2 * index], amounts[2 * index + 1])
    tensor = _cropped(low, value, table, shape_of(source))
    table = [(max(before, 0), max(behind, 0)) for before, behind in table]
    if any(side for sides in table for side in sides):
        tensor = _padded(low, node, value, tensor, [table[axis] for axis in value.order], mode)
    low.define(node, Stored(tensor, value.order, value.encoding))


def _absorbed(low: Lowering, node: fx.Node) -> bool:
    """Whether the convolution that reads this pad does it itself."""
    reader = next(iter(node.users))
    if kind_of(reader) not in ("conv2d", "depthwise_conv2d", "conv1d", "depthwise_conv1d") or node in low.returned:
        return False
    return without_pad(low, reader, node, [(0, 0), (0, 0)])[0] is not node


def _cropped(low: Lowering, value: Stored, table: Sequence[tuple[int, int]], shape: Sequence[int]) -> int:
    begin = [max(-before, 0) for before, _ in table]
    end = [size + min(behind, 0) for size, (_, behind) in zip(shape, table, strict=True)]
    sizes = [last - first for first, last in zip(begin, end, strict=True)]
    ones = [1] * len(shape)
    places = (stored(begin, value.order), stored(end, value.order), ones)
    return cut(low, value.tensor, stored(sizes, value.order), *places)


def _padded(low: Lowering, node: fx.Node, value: Stored, tensor: int, table: list[tuple[int, int]], mode: str) -> int:
    held = low.tensors[tensor]
    shape = [size + before + behind for size, (before, behind) in zip(held.shape, table, strict=True)]
    amounts = low.array(table, "int32")
    if mode == "reflect":
        return low.like("MIRROR_PAD", (tensor, amounts), tensor, shape, mode=0)
    if mode == "replicate" or mode == "circular":
        return _padded_by_parts(low, tensor, table, circular=mode == "circular")
    number = bind(node).get("value") or 0
    if number == 0:
        return low.like("PAD", (tensor, amounts), tensor, shape)
    if value.encoding is not None:
        number = rounded_to_grid(number, value.encoding)
    number = float(np.clip(number, np.finfo(np.float32).min, np.finfo(np.float32).max)) if held.dtype == "float32" else int(number)
    return low.like("PADV2", (tensor, amounts, low.array([number], held.dtype, held.numbers)), tensor, shape)


def _padded_by_parts(low: Lowering, tensor: int, table: list[tuple[int, int]], *, circular: bool) -> int:
    """The edge's values, or those of the other end, put in front and behind, axis by axis."""
    for axis, (before, behind) in enumerate(table):
        shape = list(low.tensors[tensor].shape)
        size = shape[axis]
        starts = (size - before, 0) if circular else (0, size - 1)
        front, back = (_strip(low, tensor, axis, start, count, circular=circular) for start, count in zip(starts, (before, behind), strict=True))
        parts = [*front, tensor, *back]
        if len(parts) > 1:
            shape[axis] = size + before + behind
            tensor = low.like("CONCATENATION", parts, tensor, shape, axis=axis)
    return tensor


def _strip(low: Lowering, tensor: int, axis: int, start: int, count: int, *, circular: bool) -> list[int]:
    if count == 0:
        return []
    shape = list(low.tensors[tensor].shape)
    width = count if circular else 1
    begin = [start if other == axis else 0 for other in range(len(shape))]
    sizes = [width if other == axis else size for other, size in enumerate(shape)]
    end = [first + size for first, size in zip(begin, sizes, strict=True)]
    strip = cut(low, tensor, sizes, begin, end, [1] * len(shape))
    return [strip] if circular else [strip] * count


def pixel_shuffle(low: Lowering, node: fx.Node) -> None:
    """Channels to space. torch has the block's position behind the channel, DEPTH_TO_SPACE in front of it."""
    arguments = bind(node)
    factor = int(arguments["upscale_factor"])
    value = _eight_bits(low, node, low.read(node, arguments["self"], channels_last(4), 0))
    batch, height, width, channels = low.tensors[value.tensor].shape
    tensor = _channels_moved(low, value.tensor, (channels // factor**2, factor**2))
    shape = (batch, height * factor, width * factor, channels // factor**2)
    low.define(node, Stored(low.like("DEPTH_TO_SPACE", (tensor,), tensor, shape, blockSize=factor), value.order, value.encoding))


def pixel_unshuffle(low: Lowering, node: fx.Node) -> None:
    """Space to channels, the inverse of `pixel_shuffle`."""
    arguments = bind(node)
    factor = int(arguments["downscale_factor"])
    value = _eight_bits(low, node, low.read(node, arguments["self"], channels_last(4), 0))
    batch, height, width, channels = low.tensors[value.tensor].shape
    shape = (batch, height // factor, width // factor, channels * factor**2)
    tensor = low.like("SPACE_TO_DEPTH", (value.tensor,), value.tensor, shape, blockSize=factor)
    low.define(node, Stored(_channels_moved(low, tensor, (factor**2, channels)), value.order, value.encoding))


def _eight_bits(low: Lowering, node: fx.Node, value: Stored) -> Stored:
    """The value, in floats where it is int16, which the kernels between space and depth lack."""
    if low.tensors[value.tensor].dtype != "int16":
        return value
    return low.convert(value, value.order, None, tuple(shape_of(bind(node)["self"])))


def channel_shuffle(low: Lowering, node: fx.Node) -> None:
    """Channels of all groups interleaved."""
    arguments = bind(node)
    groups = int(arguments["groups"])
    rank = len(shape_of(node))
    value = low.read(node, arguments["self"], channels_last(rank), 0)
    channels = shape_of(node)[1]
    low.define(node, Stored(_channels_moved(low, value.tensor, (groups, channels // groups)), value.order, value.encoding))


def _channels_moved(low: Lowering, tensor: int, pair: tuple[int, int]) -> int:
    """The last axis taken as (first, second) and written as (second, first)."""
    if 1 in pair:
        return tensor
    held = low.tensors[tensor]
    rows = int(np.prod(held.shape[:-1]))
    flat = low.reshape(tensor, (rows, *pair))
    turned = low.like("TRANSPOSE", (flat, low.array([0, 2, 1], "int32")), flat, (rows, pair[1], pair[0]))
    return low.reshape(turned, held.shape)
