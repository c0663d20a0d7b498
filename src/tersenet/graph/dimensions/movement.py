"""Rules of operators that move values without computing: what stood at an index stands at another."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.graph.dimensions.atoms import Vector
from tersenet.graph.dimensions.elementwise import without_rule
from tersenet.graph.dimensions.reshape import merged, reshaped
from tersenet.graph.dimensions.site import ONE, Axes, Axis, Fixed, Site, Value
from tersenet.graph.walk import constant, is_constant


def permute(site: Site) -> Value:
    """Axes change places."""
    axes = site.axes("self")
    return tuple(axes[position % len(axes)] for position in site.arguments["dims"])


def transpose(site: Site) -> Value:
    """Two axes change places."""
    first, second = (site.arguments[f"{name}{place}"] for name in ("dim", "axis") if f"{name}0" in site.arguments for place in (0, 1))
    return _swapped(site.axes("self"), first, second)


def last_two(site: Site) -> Value:
    """``mT``: the last two axes change places."""
    return _swapped(site.axes("self"), -2, -1)


def _swapped(axes: Axes, first: int, second: int) -> Axes:
    result = list(axes)
    result[first], result[second] = result[second], result[first]
    return tuple(result)


def moved(site: Site) -> Value:
    """``movedim``: some axes go to given places, the others keep their order."""
    axes = site.axes("self")
    ends = [given if isinstance(given, list | tuple) else [given] for given in (site.arguments["source"], site.arguments["destination"])]
    sources, places = ([position % len(axes) for position in given] for given in ends)
    others = iter(position for position in range(len(axes)) if position not in sources)
    goes = dict(zip(places, sources, strict=True))
    return tuple(axes[goes[place] if place in goes else next(others)] for place in range(len(axes)))


def reversed_axes(site: Site) -> Value:
    """``t`` and ``numpy_T``."""
    return site.axes("self")[::-1]


def squeeze(site: Site) -> Value:
    """Axes of one leave, or come."""
    return reshaped(site, site.axes("self"), site.shape())


def expand(site: Site) -> Value:
    """An axis of one takes any size: all its indices hold the same, so that any may leave."""
    axes, sizes = site.axes("self"), site.arguments.get("size") or [None] * len(site.shape())
    padded = (ONE,) * (len(sizes) - len(axes)) + axes
    return tuple(_widened(site, axis, size, asked) for axis, size, asked in zip(padded, site.shape(), sizes, strict=True))


def _widened(site: Site, axis: Axis, size: int, asked: Any) -> Axis:
    if len(axis) == size:
        return axis
    return site.fresh(size) if isinstance(asked, int) else site.fixed(size, "an open size")


def expand_as(site: Site) -> Value:
    """An axis of one takes the size of another tensor's."""
    return site.broadcast(site.axes("self"), site.axes("other"))


def repeat(site: Site) -> Value:
    """Axes several times over."""
    axes, times = site.axes("self"), site.arguments["repeats" if "repeats" in site.arguments else "dims"]
    rank = max(len(axes), len(times))
    padded = (ONE,) * (rank - len(axes)) + axes
    counts = [1] * (rank - len(times)) + list(times)
    result: list[Axis] = []
    for axis, count, size in zip(padded, counts, site.shape(), strict=True):
        if len(axis) == 1:
            result.append(_widened(site, axis, size, count))
        else:
            result.append(site.fixed(size, axis.why) if isinstance(axis, Fixed) else np.tile(axis, size // len(axis)))
    return tuple(result)


def repeat_interleave(site: Site) -> Value:
    """Each index of an axis several times in a row."""
    times, dim = site.arguments["repeats"], site.arguments.get("dim")
    if not isinstance(times, int) or (dim is None and len(site.axes("self")) != 1):
        return without_rule(site)
    axes = list(site.axes("self"))
    dim = (dim or 0) % len(axes)
    axis, size = axes[dim], site.shape()[dim]
    if len(axis) == 1:
        axes[dim] = _widened(site, axis, size, times)
    else:
        axes[dim] = site.fixed(size, axis.why) if isinstance(axis, Fixed) else np.repeat(axis, times)
    return tuple(axes)


def glu(site: Site) -> Value:
    """One half of an axis times the other's sigmoid: the halves are cut alike."""
    axes = list(site.axes("self"))
    dim = site.arguments["dim"] % len(axes)
    half = len(axes[dim]) // 2
    if half == 1:
        site.pin(axes[dim], f"{site.node.name} takes it apart")
    axes[dim] = site.tie(*(cut(axes[dim], start, start + half) for start in (0, half)))
    if not isinstance(axes[dim], Fixed):
        site.pieces.append(axes[dim])
    return tuple(axes)


def concatenate(site: Site) -> Value:
    """Side by side along one axis (of ``hstack`` the second, or the only one); the others are tied."""
    operands = [site.axes(node) for node in site.arguments["tensors"]]
    operands = [axes for axes in operands if len(axes) != 1 or len(axes[0])]  # an empty vector joins anything
    return _beside(site, operands)


def piled(site: Site) -> Value:
    """``vstack``: one below the other, a vector as a row."""
    operands = [site.axes(node) for node in site.arguments["tensors"]]
    return _beside(site, [axes if len(axes) > 1 else (ONE, *(axes or (ONE,))) for axes in operands], 0)


def columns(site: Site) -> Value:
    """``column_stack``: side by side, a vector as a column."""
    operands = [site.axes(node) for node in site.arguments["tensors"]]
    return _beside(site, [axes if len(axes) > 1 else (*(axes or (ONE,)), ONE) for axes in operands], 1)


def _beside(site: Site, operands: list[Axes], dim: int | None = None) -> Axes:
    if dim is None:
        dim = site.arguments.get("dim", min(1, len(operands[0]) - 1)) % len(operands[0])
    result: list[Axis] = [site.tie(*(axes[position] for axes in operands)) if position != dim else ONE for position in range(len(operands[0]))]
    parts = [axes[dim] for axes in operands]
    if all(isinstance(part, Fixed) for part in parts):
        result[dim] = site.fixed(sum(len(part) for part in parts), parts[0].why)  # type: ignore[union-attr]
    else:
        result[dim] = np.concatenate([site.opened(part) for part in parts])
    return tuple(result)


def stack(site: Site) -> Value:
    """A new axis, of as many as there are tensors."""
    operands = [site.axes(node) for node in site.arguments["tensors"]]
    result = [site.tie(*column) for column in zip(*operands, strict=True)]
    dim = site.arguments["dim"] % (len(result) + 1)
    result.insert(dim, site.fixed(len(operands), f"the tensors that {site.node.name} stacks"))
    return tuple(result)


def split(site: Site) -> Value:
    """Neighbouring pieces of one axis."""
    axes, dim = site.axes("self"), site.arguments["dim"] % len(site.axes("self"))
    pieces: list[Axes] = []
    start = 0
    for place in range(len(site.node.meta["val"])):
        size = site.shape(place)[dim]
        if size == 1:
            site.pin(cut(axes[dim], start, start + 1, keep=True), f"{site.node.name} takes it alone")
        piece = cut(axes[dim], start, start + size)
        if not isinstance(piece, Fixed):
            site.pieces.append(piece)
        pieces.append((*axes[:dim], piece, *axes[dim + 1 :]))
        start += size
    return tuple(pieces)


def cut(axis: Axis, start: int, end: int, step: int = 1, *, keep: bool = False) -> Axis:
    """A slice of an axis; one index alone is no axis to cut any more, unless it is asked for."""
    size = len(range(len(axis))[start:end:step])
    if size == 1 and not keep:
        return ONE
    return Fixed(size, axis.why) if isinstance(axis, Fixed) else axis[start:end:step]


def unbind(site: Site) -> Value:
    """One tensor for each index of an axis, which must stay."""
    axes, dim = site.axes("self"), site.arguments["dim"] % len(site.axes("self"))
    site.pin(axes[dim], f"{site.node.name} takes it apart")
    return ((*axes[:dim], *axes[dim + 1 :]),) * len(site.node.meta["val"])


def getitem(site: Site) -> Value:
    """One of several results."""
    source, position = site.node.args
    found: Value = site.values[source][position]  # type: ignore[index,assignment]
    return found


def slice_(site: Site) -> Value:
    """A slice along one axis; ends may count from behind or lie beyond."""
    axes = list(site.axes("self"))
    dim = site.arguments["dim"] % len(axes)
    size = site.shape()[dim]
    if isinstance(axes[dim], Fixed):
        axes[dim] = site.fixed(size, axes[dim].why)
        return tuple(axes)
    begin, step = bounds(site)[0], site.arguments.get("step", 1)
    if not isinstance(begin, int):
        site.pin(axes[dim], f"{site.node.name} cuts it at an open place")
        axes[dim] = site.fixed(size)
        return tuple(axes)
    whole = axes[dim]
    axes[dim] = cut(whole, begin, begin + (size - 1) * step + 1, step)
    if size == 1:
        site.pin(whole[begin : begin + 1], f"{site.node.name} takes it alone")
    else:
        site.pieces.append(axes[dim])
    return tuple(axes)


def bounds(site: Site) -> tuple[Any, Any]:
    """First index of a slice and the one behind its last, counted from the front."""
    size = len(site.axes("self")[site.arguments["dim"] % len(site.axes("self"))])
    start = site.arguments.get("start") or 0
    end = site.arguments.get("end", start + site.arguments["length"] if "length" in site.arguments else None)
    if isinstance(start, fx.Node):
        return start, end
    begin, stop, _ = slice(start, sys.maxsize if end is None or isinstance(end, fx.Node) else end).indices(size)
    return begin, stop


def select(site: Site) -> Value:
    """One index of an axis, which must stay."""
    axes, dim, index = site.axes("self"), site.arguments["dim"], site.arguments["index"]
    dim %= len(axes)
    chosen = axes[dim]
    if not isinstance(chosen, Fixed):
        site.pin(chosen[index : index + 1 or None] if isinstance(index, int) else chosen, f"{site.node.name} takes it alone")
    return (*axes[:dim], *axes[dim + 1 :])


def index_select(site: Site) -> Value:
    """Given indices of one axis."""
    axes = list(site.axes("self"))
    dim = site.arguments["dim"] % len(axes)
    index = site.arguments["index"]
    if isinstance(axes[dim], Fixed) or not is_constant(index):
        site.pin(axes[dim], f"{site.node.name} is told by the data which to take")
        axes[dim] = site.fixed(site.shape()[dim])
    else:
        axes[dim] = axes[dim][constant(site.module, index).reshape(-1).numpy().astype(np.int64)]
        if len(axes[dim]) == 1:
            site.pin(axes[dim], f"{site.node.name} takes it alone")
            axes[dim] = ONE
    _pin_all(site, site.axes("index"), f"{site.node.name} reads it as indices")
    return tuple(axes)


def index(site: Site) -> Value:
    """Advanced indexing: what is indexed stays, the other axes pass where they keep their places."""
    axes, given = site.axes("self"), list(site.arguments["indices"])
    given += [None] * (len(axes) - len(given))
    indexed = [position for position, node in enumerate(given) if node is not None]
    axis, order = axes[indexed[0]], _order(site, given[indexed[0]])
    if len(indexed) == 1 and order is not None and not isinstance(axis, Fixed):  # x[:, places] with places that the network knows
        _pin_all(site, site.axes(given[indexed[0]]), f"{site.node.name} reads it as indices")
        return tuple(axis[order] if position == indexed[0] else other for position, other in enumerate(axes))
    why = f"{site.node.name} is told by indices which to take"
    for position in indexed:
        site.pin(axes[position], why)
        _pin_all(site, site.axes(given[position]), f"{site.node.name} reads it as indices")
    shape = site.shape()
    together = indexed == list(range(indexed[0], indexed[-1] + 1))
    first = indexed[0] if together else 0
    rank = len(shape) - (len(axes) - len(indexed))
    passing = [axis for position, axis in enumerate(axes) if position not in indexed]
    made = [site.fixed(size, f"indices that {site.node.name} takes") for size in shape[first : first + rank]]
    return (*passing[:first], *made, *passing[first:])


def _order(site: Site, index: fx.Node) -> Vector | None:
    """Places in a row that are constant; None where the data say them, or where they are marked by yes and no."""
    if not is_constant(index):
        return None
    places = constant(site.module, index)
    return places.numpy().astype(np.int64) if places.dim() == 1 and len(places) > 1 and places.dtype in (torch.int32, torch.int64) else None


def gather(site: Site) -> Value:
    """One axis is told by data which to take; the others may be cut no more."""
    site.refuse([axis for node in site.tensors() for axis in site.axes(node)], f"{site.node.name} is told by the data which to take")
    return tuple(site.fixed(size) for size in site.shape())


def _pin_all(site: Site, axes: Axes, why: str) -> None:
    for axis in axes:
        site.pin(axis, why)


_FLIPPED = {"aten::flipud": 0, "aten::fliplr": 1}


def flip(site: Site) -> Value:
    """Backwards along some axes."""
    axes = list(site.axes("self"))
    for dim in site.arguments.get("dims", [_FLIPPED.get(site.node.target._schema.name)]):  # type: ignore[union-attr]
        axes[dim] = axes[dim] if isinstance(axes[dim], Fixed) else axes[dim][::-1]
    return tuple(axes)


def roll(site: Site) -> Value:
    """Around; such an axis stays."""
    axes = site.axes("self")
    for dim in site.arguments["dims"] or range(len(axes)):
        site.pin(axes[dim], f"{site.node.name} turns it around")
    return axes


def pad(site: Site) -> Value:
    """Constants at both ends: those before and behind channels leave like channels."""
    axes = list(site.axes("self"))
    ends = site.arguments["pad"]
    constant = site.arguments.get("mode", "constant") == "constant"
    for position in range(len(ends) // 2):
        before, behind = ends[2 * position : 2 * position + 2]
        axis = axes[-1 - position]
        if before == 0 and behind == 0:
            continue
        size = site.shape()[-1 - position]
        whole = constant and isinstance(before, int) and isinstance(behind, int) and before >= 0 and behind >= 0
        if isinstance(axis, Fixed) or not whole:
            site.pin(axis, f"{site.node.name} pads it")
            axes[-1 - position] = site.fixed(size)
        else:
            axes[-1 - position] = np.concatenate([site.atoms.fresh(before), axis, site.atoms.fresh(behind)])
    return tuple(axes)


def pixel_shuffle(site: Site) -> Value:
    """r times r neighbouring channels become places: they leave together."""
    axes = site.axes("self")
    made = _channels_of(site, axes[-3], site.arguments["upscale_factor"] ** 2)
    _pin_all(site, axes[-2:], f"{site.node.name} takes it as places")
    return (*axes[:-3], made, *(site.fixed(size) for size in site.shape()[-2:]))


def _channels_of(site: Site, channels: Axis, count: int) -> Axis:
    """Channels of which each has so many neighbouring places in the given axis."""
    if isinstance(channels, Fixed):
        return site.fixed(len(channels) // count, channels.why)
    made = site.fresh(len(channels) // count)
    site.product(channels, (made, Fixed(count, "places")))
    return made


def pixel_unshuffle(site: Site) -> Value:
    """Places become r times r neighbouring channels."""
    axes, factor = site.axes("self"), site.arguments["downscale_factor"]
    whole = merged(site, (axes[-3], Fixed(factor**2, "places")))
    _pin_all(site, axes[-2:], f"{site.node.name} takes it as places")
    return (*axes[:-3], whole, *(site.fixed(size) for size in site.shape()[-2:]))


def channel_shuffle(site: Site) -> Value:
    """(groups, channels) read as (channels, groups)."""
    axes, groups = site.axes("self"), site.arguments["groups"]
    channels = axes[1]
    if isinstance(channels, Fixed) or groups == 1:
        return axes
    outer, inner = site.fresh(groups), site.fresh(len(channels) // groups)
    site.product(channels, (outer, inner))
    return (axes[0], merged(site, (inner, outer)), *axes[2:])


def unfold(site: Site) -> Value:
    """``im2col``: each channel becomes one for each place of the kernel."""
    axes = site.axes("self")
    kernel = int(np.prod(site.arguments["kernel_size"]))
    _pin_all(site, axes[-2:], f"{site.node.name} takes it as places")
    return (*axes[:-3], merged(site, (axes[-3], Fixed(kernel, "places"))), site.fixed(site.shape()[-1]))


def fold(site: Site) -> Value:
    """``col2im``: of each channel one for each place of the kernel are added up to places."""
    axes = site.axes("self")
    made = _channels_of(site, axes[-2], int(np.prod(site.arguments["kernel_size"])))
    site.pin(axes[-1], f"{site.node.name} takes it as places")
    return (*axes[:-2], made, *(site.fixed(size) for size in site.shape()[-2:]))


def windows(site: Site) -> Value:
    """``Tensor.unfold``: parts of one axis, which must stay, as a new last one."""
    axes, shape = list(site.axes("self")), site.shape()
    dim = site.arguments["dimension"] % len(axes)
    site.pin(axes[dim], f"{site.node.name} takes windows of it")
    axes[dim] = site.fixed(shape[dim])
    return (*axes, site.fixed(shape[-1]))


def sampled(site: Site) -> Value:
    """``grid_sampler``: the channels of an image, read at the places that a grid says."""
    axes, grid = site.axes("input"), site.axes("grid")
    _pin_all(site, axes[2:], f"{site.node.name} takes it as places")
    _pin_all(site, grid[1:], f"{site.node.name} reads it as places")
    return (site.tie(axes[0], grid[0]), axes[1], *(site.fixed(size) for size in site.shape()[2:]))


def turned(site: Site) -> Value:
    """``rot90``, ``tril``, ``triu``, ``diagonal``: what stands where in two axes matters, which must stay; the others pass."""
    axes, held = site.axes("self"), site.arguments
    dims = held["dims"] if "dims" in held else [held["dim1"], held["dim2"]] if "dim1" in held else [-2, -1]
    both = {dim % len(axes) for dim in dims}
    why = f"{site.node.name} looks at places in it"
    _pin_all(site, tuple(axes[position] for position in both), why)
    kept = [axis for position, axis in enumerate(axes) if position not in both]
    if "dim1" in held:
        return (*kept, site.fixed(site.shape()[-1]))
    return tuple(site.fixed(size) if position in both else axes[position] for position, size in enumerate(site.shape()))


def scatter_select(site: Site) -> Value:
    """A tensor with one index of an axis, or a run of them, replaced."""
    axes, dim = site.axes("self"), site.arguments["dim"] % len(site.axes("self"))
    source = list(site.axes("src"))
    if len(source) < len(axes):
        source.insert(dim, ONE)
    site.pin(axes[dim], f"{site.node.name} writes to a part of it")
    site.pin(source[dim], f"{site.node.name} writes it to a part")
    return tuple(axis if position == dim else site.tie(axis, source[position]) for position, axis in enumerate(axes))
