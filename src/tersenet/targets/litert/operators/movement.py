"""Operators that put values elsewhere and compute nothing: integers pass through them as they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import fx

from tersenet.graph.operators import kind_of
from tersenet.graph.walk import bind, is_constant, shape_of
from tersenet.targets.litert.layout import Order, identity, relabelled, same_memory, stored, through_reshape, with_new, without
from tersenet.targets.litert.lowering import Lowering, Stored, same_grid
from tersenet.targets.litert.operators.convolution import flattened_columns

ELEMENT_BY_ELEMENT = {"relu", "relu6", "clamp", "sigmoid", "tanh", "hardswish", "hardsigmoid", "silu", "gelu", "elu", "leaky_relu"}
SPATIAL = {"conv1d", "conv2d", "depthwise_conv2d", "depthwise_conv1d", "conv_transpose2d", "conv_transpose1d", "max_pool2d", "avg_pool2d"}


def reshape(low: Lowering, node: fx.Node) -> None:
    """Merged and split axes. An image that is flattened for linear layers alone stays as it lies, and their columns move instead."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    shape, target = shape_of(source), shape_of(node)
    value = low.read(node, source, position=0)
    wanted, order = through_reshape(shape, value.order, target, images=_has_images(low))
    rows = len(target) == 2 and target[0] == shape[0] and value.order[0] == 0
    if rows and not same_memory(shape, wanted, value.order) and _only_linear(low, node):
        columns = flattened_columns(shape, value.order)
        low.define(node, Stored(low.reshape(value.tensor, target), identity(2), value.encoding, columns))
        return
    value = low.convert(value, wanted, value.encoding, tuple(shape))
    low.define(node, Stored(low.reshape(value.tensor, stored(target, order)), order, value.encoding))


def _has_images(low: Lowering) -> bool:
    return any(kind_of(node) in SPATIAL for node in low.module.graph.nodes)


def _only_linear(low: Lowering, node: fx.Node) -> bool:
    """Whether only linear layers read a value, perhaps through operators that work element by element."""
    for reader in node.users:
        kind = kind_of(reader)
        if kind in ELEMENT_BY_ELEMENT:
            if not _only_linear(low, reader):
                return False
        elif kind != "linear" or reader.args[0] is not node:
            return False
    return bool(node.users)


def permute(low: Lowering, node: fx.Node) -> None:
    """Stored axes get new names; nothing moves until an operator asks for it."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    rank = len(shape_of(source))
    value = low.read(node, source, position=0)
    low.define(node, Stored(value.tensor, relabelled(value.order, _permutation(node, rank)), value.encoding))


def _permutation(node: fx.Node, rank: int) -> list[int]:
    arguments = bind(node)
    axes = list(range(rank))
    if "dims" in arguments:
        return [int(axis) for axis in arguments["dims"]]
    if "source" in arguments:
        moved = [axis % rank for axis in arguments["source"]]
        places = dict(zip([axis % rank for axis in arguments["destination"]], moved, strict=True))
        rest = iter(axis for axis in axes if axis not in moved)
        return [places[place] if place in places else next(rest) for place in axes]
    if "dim0" in arguments:
        first, second = arguments["dim0"] % rank, arguments["dim1"] % rank
        axes[first], axes[second] = axes[second], axes[first]
        return axes
    return axes[::-1]


def concat(low: Lowering, node: fx.Node) -> None:
    """Values side by side along one axis."""
    children: Sequence[Any] = bind(node)["tensors"]
    children = [child for child in children if shape_of(child) != (0,)]
    axis = int(bind(node)["dim"]) % len(shape_of(node))
    order = next((low.values[child].order for child in children if not is_constant(child)), identity(len(shape_of(node))))
    values = _alike(low, node, children, order)
    tensors = [value.tensor for value in values]
    shape = stored(shape_of(node), order)
    made = low.like("CONCATENATION", tensors, tensors[0], shape, axis=order.index(axis))
    low.define(node, Stored(made, order, values[0].encoding))


def _alike(low: Lowering, node: fx.Node, children: Sequence[Any], order: Order) -> list[Stored]:
    """Values in one order and on one grid: the plan's for the result, else the one that they share, else floats."""
    planned = low.plan.values.get(node.name)
    if low.unit(node) is None:
        grids = [None if is_constant(child) else low.values[child].encoding for child in children]
        planned = grids[0] if all(same_grid(grid, grids[0]) for grid in grids) else None
    values = []
    for position, child in enumerate(children):
        value = low.read(node, child, order, position)
        quantizable = low.tensors[value.tensor].dtype in ("float32", "int8", "int16")
        values.append(low.convert(value, order, planned if quantizable else None, tuple(shape_of(child))))
    return values


def stack(low: Lowering, node: fx.Node) -> None:
    """Values side by side along a new axis."""
    children = bind(node)["tensors"]
    rank = len(shape_of(node))
    axis = int(bind(node)["dim"]) % rank
    order = next((low.values[child].order for child in children if not is_constant(child)), identity(rank - 1))
    values = _alike(low, node, children, order)
    grown = with_new(order, axis)
    options = {"valuesCount": len(children), "axis": grown.index(axis)}
    made = low.like("PACK", [value.tensor for value in values], values[0].tensor, stored(shape_of(node), grown), **options)
    low.define(node, Stored(made, grown, values[0].encoding))


def split(low: Lowering, node: fx.Node) -> None:
    """One value in several parts."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    axis = int(arguments["dim"]) % len(shape_of(source))
    parts = [tuple(part.shape) for part in node.meta["val"]]
    place = low.array([value.order.index(axis)], "int32")
    sizes = [part[axis] for part in parts]
    shapes = [stored(part, value.order) for part in parts]
    even = len(set(sizes)) == 1
    inputs = [place, value.tensor] if even else [value.tensor, low.array(sizes, "int32"), place]
    made = low.several("SPLIT" if even else "SPLIT_V", inputs, value.tensor, shapes, numSplits=len(parts))
    for index, reader in _parts(node):
        low.define(reader, Stored(made[index], value.order, value.encoding))


def unbind(low: Lowering, node: fx.Node) -> None:
    """One value in parts of size 1 whose axis is gone."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    axis = int(arguments["dim"]) % len(shape_of(source))
    order = without(value.order, [axis])
    shapes = [stored(tuple(part.shape), order) for part in node.meta["val"]]
    made = low.several("UNPACK", (value.tensor,), value.tensor, shapes, num=len(shapes), axis=value.order.index(axis))
    for index, reader in _parts(node):
        low.define(reader, Stored(made[index], order, value.encoding))


def _parts(node: fx.Node) -> list[tuple[int, fx.Node]]:
    return [(int(reader.args[1]), reader) for reader in node.users]  # type: ignore[arg-type]


def part(low: Lowering, node: fx.Node) -> None:
    """An element of an operator's several results: made with the operator itself."""
    if node not in low.values:
        raise low.refuse(node, "it takes a part of a result that has none there")


def slice_(low: Lowering, node: fx.Node) -> None:
    """A range along one axis; slices of slices become one operator."""
    if len(node.users) == 1 and kind_of(next(iter(node.users))) == "slice" and not low.plan.uses and node not in low.returned:
        return  # the last of the chain does it all
    chain = [node]
    while isinstance(chain[0].args[0], fx.Node) and kind_of(chain[0].args[0]) == "slice" and chain[0].args[0] not in low.values:
        chain.insert(0, chain[0].args[0])
    source = chain[0].args[0]
    assert isinstance(source, fx.Node)
    value = low.read(chain[0], source, position=0)
    rank = len(shape_of(source))
    begin, step = [0] * rank, [1] * rank
    for link in chain:
        axis, start, skip = _range(link)
        begin[axis] += start * step[axis]
        step[axis] *= skip
    shape = shape_of(node)
    end = [first + (size - 1) * skip + 1 for first, size, skip in zip(begin, shape, step, strict=True)]
    begins, ends, steps = (stored(numbers, value.order) for numbers in (begin, end, step))
    made = cut(low, value.tensor, stored(shape, value.order), begins, ends, steps)
    low.define(node, Stored(made, value.order, value.encoding))


def cut(low: Lowering, tensor: int, shape: Sequence[int], begin: Sequence[int], end: Sequence[int], step: Sequence[int]) -> int:
    """A range of a stored tensor: SLICE, which XNNPACK has, where no element is skipped."""
    if tuple(shape) == low.tensors[tensor].shape:
        return tensor
    if all(stride == 1 for stride in step):
        return low.like("SLICE", (tensor, low.array(begin, "int32"), low.array(shape, "int32")), tensor, shape)
    even = all(skip == 1 or (size % skip == 0 and first < skip) for size, first, skip in zip(low.tensors[tensor].shape, begin, step, strict=True))
    if even and not low.micro and _skips_alone(low, tensor, shape, step):
        return _every_nth(low, tensor, shape, begin, step)
    places = [low.array(numbers, "int32") for numbers in (begin, end, step)]
    return low.like("STRIDED_SLICE", (tensor, *places), tensor, shape)


def _skips_alone(low: Lowering, tensor: int, shape: Sequence[int], step: Sequence[int]) -> bool:
    """Whether a range only skips, over whole axes."""
    return all(count == size // skip for size, count, skip in zip(low.tensors[tensor].shape, shape, step, strict=True))


def _every_nth(low: Lowering, tensor: int, shape: Sequence[int], begin: Sequence[int], step: Sequence[int]) -> int:
    """Every n-th element as a SLICE of a reshape, which XNNPACK takes; a STRIDED_SLICE would cut the network in two for it."""
    whole, first, kept = [1], [0], [1]
    for size, start, skip in zip(low.tensors[tensor].shape, begin, step, strict=True):
        if skip == 1:
            whole[-1], first[-1], kept[-1] = whole[-1] * size, first[-1] * size, kept[-1] * size
            continue
        whole[-1], first[-1], kept[-1] = whole[-1] * (size // skip), first[-1] * (size // skip), kept[-1] * (size // skip)
        whole, first, kept = [*whole, skip], [*first, start], [*kept, 1]
    apart = low.reshape(tensor, whole)
    return low.reshape(low.like("SLICE", (apart, low.array(first, "int32"), low.array(kept, "int32")), apart, kept), shape)


def _range(node: fx.Node) -> tuple[int, int, int]:
    """Axis, first index and step of one slice."""
    arguments = bind(node)
    size = shape_of(arguments["self"])
    axis = int(arguments["dim"]) % len(size)
    start = arguments["start"] if arguments["start"] is not None else 0
    start = min(max(start + size[axis] if start < 0 else start, 0), size[axis])
    return axis, int(start), int(arguments.get("step", 1))


def select(low: Lowering, node: fx.Node) -> None:
    """One index along an axis, which is gone then."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    shape = list(shape_of(source))
    axis = int(arguments["dim"]) % len(shape)
    index = int(arguments["index"]) % shape[axis]
    begin = [index if other == axis else 0 for other in range(len(shape))]
    sizes = [1 if other == axis else size for other, size in enumerate(shape)]
    end = [first + size for first, size in zip(begin, sizes, strict=True)]
    ones = [1] * len(shape)
    taken = cut(low, value.tensor, stored(sizes, value.order), stored(begin, value.order), stored(end, value.order), ones)
    order = without(value.order, [axis])
    low.define(node, Stored(low.reshape(taken, stored(shape_of(node), order)), order, value.encoding))
