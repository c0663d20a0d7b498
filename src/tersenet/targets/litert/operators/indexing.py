"""Elements picked by indices, repeated, turned round, or made from nothing."""

from __future__ import annotations

import math

import numpy as np
from torch import fx

from tersenet.graph.walk import bind, constant, is_constant, shape_of
from tersenet.numerics.affine import quantize
from tersenet.targets.litert.layout import identity, stored
from tersenet.targets.litert.lowering import Lowering, Stored, dtype_name, numbers_of
from tersenet.targets.litert.operators.movement import cut


def embedding(low: Lowering, node: fx.Node) -> None:
    """Rows of a table by their numbers."""
    arguments = bind(node)
    indices = _indices(low, node, arguments["indices"])
    unit = low.unit(node)
    encoding = (unit.weights.get("weight") or low.plan.values.get(node.name)) if unit is not None else None
    table = constant(low.module, arguments["weight"])
    if encoding is not None and encoding.axis is not None:
        raise low.refuse(node, "a table of int8 rows has one scale there; ask for per-tensor weights for this layer")
    held = quantize(table, encoding).numpy() if encoding is not None else table.float().numpy()
    weight = low.array(held, "int8" if encoding is not None else "float32", numbers_of(encoding))
    made = low.like("GATHER", (weight, indices), weight, shape_of(node), axis=0)
    low.define(node, Stored(made, identity(len(shape_of(node))), encoding))


def _indices(low: Lowering, node: fx.Node, indices: fx.Node, size: int = 0) -> int:
    """Numbers of rows; constant ones are stored as int32, which every kernel takes, counted from the first of `size` rows."""
    if is_constant(indices):
        numbers = constant(low.module, indices).numpy()
        return low.array(np.where(numbers < 0, numbers + size, numbers), "int32")
    return low.read(node, indices, identity(len(shape_of(indices)))).tensor


def index_select(low: Lowering, node: fx.Node) -> None:
    """Slices along one axis by their numbers."""
    arguments = bind(node)
    source = arguments["self"]
    value = low.read(node, source, position=0)
    indices = _indices(low, node, arguments["index"])
    axis = value.order.index(int(arguments["dim"]) % len(shape_of(source)))
    made = low.like("GATHER", (value.tensor, indices), value.tensor, stored(shape_of(node), value.order), axis=axis)
    low.define(node, Stored(made, value.order, value.encoding))


def index(low: Lowering, node: fx.Node) -> None:
    """``x[:, i]``: one tensor of indices along one axis."""
    arguments = bind(node)
    source, indices = arguments["self"], list(arguments["indices"])
    given = [axis for axis, entry in enumerate(indices) if entry is not None]
    if len(given) != 1:
        raise low.refuse(node, "an index of several tensors at once must be written with index_select or gather")
    axis, chosen = given[0], indices[given[0]]
    if str(chosen.meta["val"].dtype) == "torch.bool":
        raise low.refuse(node, "an index by a mask has no fixed shape; use torch.where")
    rank = len(shape_of(source))
    value = low.read(node, source, identity(rank), 0)
    made = low.like("GATHER", (value.tensor, _indices(low, node, chosen, shape_of(source)[axis])), value.tensor, shape_of(node), axis=axis)
    low.define(node, Stored(made, identity(len(shape_of(node))), value.encoding))


def gather(low: Lowering, node: fx.Node) -> None:
    """``torch.gather``: an index for each element of the result, along one axis. The axis goes last and everything before it is a batch."""
    arguments = bind(node)
    source, chosen = arguments["self"], arguments["index"]
    rank = len(shape_of(source))
    axis = int(arguments["dim"]) % rank
    sizes = [size for position, size in enumerate(shape_of(source)) if position != axis]
    if sizes != [size for position, size in enumerate(shape_of(chosen)) if position != axis]:
        raise low.refuse(node, "gather must have as many indices as elements along every other axis")
    order = (*(position for position in range(rank) if position != axis), axis)
    value, picked = low.read(node, source, order, 0), low.read(node, chosen, order)
    rows = math.prod(sizes)
    flat, indices = low.reshape(value.tensor, (rows, shape_of(source)[axis])), low.reshape(picked.tensor, (rows, shape_of(chosen)[axis]))
    made = low.like("GATHER", (flat, indices), flat, (rows, shape_of(chosen)[axis]), axis=1, batchDims=1)
    low.define(node, Stored(low.reshape(made, stored(shape_of(node), order)), order, value.encoding))


def expand(low: Lowering, node: fx.Node) -> None:
    """Axes of size 1 repeated."""
    source = node.args[0]
    assert isinstance(source, fx.Node)
    shape, target = list(shape_of(source)), shape_of(node)
    value = low.read(node, source, position=0)
    grown = len(target) - len(shape)
    order = (*range(grown), *(axis + grown for axis in value.order))
    tensor = low.reshape(value.tensor, (*[1] * grown, *low.tensors[value.tensor].shape))
    wanted = stored(target, order)
    if low.tensors[tensor].shape != wanted:
        tensor = low.like("BROADCAST_TO", (tensor, low.array(wanted, "int32")), tensor, wanted)
    low.define(node, Stored(tensor, order, value.encoding))


def tile(low: Lowering, node: fx.Node) -> None:
    """The whole repeated along axes."""
    arguments = bind(node)
    source = arguments["self"]
    repeats = [int(count) for count in arguments["repeats" if "repeats" in arguments else "dims"]]
    shape = list(shape_of(source))
    value = low.read(node, source, position=0)
    grown = max(len(repeats) - len(shape), 0)
    repeats = [1] * (len(shape) - len(repeats)) + repeats
    order = (*range(grown), *(axis + grown for axis in value.order))
    tensor = low.reshape(value.tensor, (*[1] * grown, *low.tensors[value.tensor].shape))
    counts = stored(repeats, order)
    made = low.like("TILE", (tensor, low.array(counts, "int32")), tensor, stored(shape_of(node), order))
    low.define(node, Stored(made, order, value.encoding))


def flip(low: Lowering, node: fx.Node) -> None:
    """Axes read backwards."""
    arguments = bind(node)
    source = arguments["self"]
    rank = len(shape_of(source))
    value = low.read(node, source, position=0)
    tensor = value.tensor
    for axis in arguments["dims"]:
        tensor = low.like("REVERSE_V2", (tensor, low.array([value.order.index(int(axis) % rank)], "int32")), tensor)
    low.define(node, Stored(tensor, value.order, value.encoding))


def roll(low: Lowering, node: fx.Node) -> None:
    """Axes turned round: the end comes to the front."""
    arguments = bind(node)
    source = arguments["self"]
    rank = len(shape_of(source))
    if not arguments["dims"]:
        raise low.refuse(node, "roll needs the axes that it turns; name them (dims=...)")
    value = low.read(node, source, position=0)
    tensor = value.tensor
    for shift, axis in zip(arguments["shifts"], arguments["dims"], strict=True):
        place = value.order.index(int(axis) % rank)
        shape = list(low.tensors[tensor].shape)
        edge = shape[place] - int(shift) % shape[place]
        if edge == shape[place]:
            continue
        pieces = []
        for first, last in ((edge, shape[place]), (0, edge)):
            begin, end = [0] * rank, list(shape)
            begin[place], end[place] = first, last
            sizes = [stop - start for start, stop in zip(begin, end, strict=True)]
            pieces.append(cut(low, tensor, sizes, begin, end, [1] * rank))
        tensor = low.like("CONCATENATION", pieces, tensor, shape, axis=place)
    low.define(node, Stored(tensor, value.order, value.encoding))


def triangle(low: Lowering, node: fx.Node) -> None:
    """tril and triu: a product with a constant triangle of ones."""
    arguments = bind(node)
    source = arguments["self"]
    rows, columns = shape_of(source)[-2:]
    keep = np.tril if "tril" in str(node.target) else np.triu
    mask = keep(np.ones((rows, columns), np.float32), int(arguments["diagonal"]))
    value = low.read(node, source, identity(len(shape_of(source))), 0)
    dtype = low.tensors[value.tensor].dtype
    low.result(node, "MUL", (value.tensor, low.array(mask, dtype)), value.order)


def made_from_nothing(low: Lowering, node: fx.Node) -> None:
    """arange, zeros, ones and full: constants, now that every size is known."""
    keywords = {key: value for key, value in node.kwargs.items() if key not in ("device", "pin_memory", "layout")}
    shapes = fx.node.map_arg((node.args, keywords), lambda child: child.meta["val"])
    if any(isinstance(argument, fx.Node) and not is_constant(argument) for argument in node.args):
        arguments = bind(node)
        numbers = {"zeros_like": 0, "ones_like": 1, "new_zeros": 0}
        number = arguments.get("fill_value", numbers.get(str(node.target).split(".")[1], 0))
        array = np.full(tuple(shape_of(node)), number)
    else:
        array = node.target(*shapes[0], **shapes[1]).numpy()  # type: ignore[operator]
    low.define(node, Stored(low.array(array, dtype_name(node.meta["val"].dtype)), identity(len(shape_of(node)))))
