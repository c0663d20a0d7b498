"""Rules of operators that treat each place alike, of reductions, and of what is made from nothing."""

from __future__ import annotations

from typing import Any

from torch import fx

from tersenet.graph.dimensions.site import ONE, Axes, Axis, Site, Value


def elementwise(site: Site) -> Value:
    """One value for each place, from all operands there."""
    operands = [site.axes(node) for node in site.tensors()]
    return site.broadcast(*operands) if operands else without_rule(site)


def limited(site: Site) -> Value:
    """``clamp`` between numbers or tensors."""
    return site.broadcast(*(site.axes(node) for node in site.tensors()))


def first(site: Site) -> Value:
    """The first operand's places, whatever the others are for."""
    return site.axes(site.node.args[0])


def reduced(site: Site) -> Value:
    """A sum, mean or extreme over axes; of channels too: those that leave are not counted any more."""
    kept = _without(site, site.axes("self" if "self" in site.arguments else "input"), site.arguments.get("dim"))
    value = site.node.meta["val"]
    return (kept,) * len(value) if isinstance(value, tuple | list) else kept


def reduced_whole(site: Site) -> Value:
    """A reduction whose result depends on where things stand: the axes that it runs along must stay. ``max`` of two is none."""
    if "other" in site.arguments:
        return elementwise(site)
    axes = site.axes("self")
    for axis in _dims(axes, site.arguments.get("dim")):
        site.pin(axes[axis], f"{site.node.name} counts along it")
    kept = _without(site, axes, site.arguments.get("dim"))
    return (kept, kept) if isinstance(site.node.meta["val"], tuple | list) else kept


def along(site: Site) -> Value:
    """A computation along one axis that needs all of it (softmax, cumulative sums, sorting)."""
    axes = list(site.axes("self"))
    for axis in _dims(tuple(axes), site.arguments.get("dim")):
        site.pin(axes[axis], f"{site.node.name} runs along it")
        axes[axis] = site.fixed(len(axes[axis]), f"what {site.node.name} runs along")
    value = site.node.meta["val"]
    if not isinstance(value, tuple | list):
        return tuple(axes)
    shape = site.shape(0)
    result = tuple(axis if len(axis) == size else site.fixed(size) for axis, size in zip(axes, shape, strict=True))
    return (result,) * len(value)


def _dims(axes: Axes, dim: Any) -> list[int]:
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(len(axes)))
    return [axis % len(axes) for axis in (dim if isinstance(dim, list | tuple) else [dim])] if axes else []


def _without(site: Site, axes: Axes, dim: Any) -> Axes:
    gone = set(_dims(axes, dim))
    if site.arguments.get("keepdim"):
        return tuple(ONE if axis in gone else kept for axis, kept in enumerate(axes))
    return tuple(kept for axis, kept in enumerate(axes) if axis not in gone)


def filled(site: Site) -> Value:
    """One number everywhere: such a tensor can have any size."""
    sizes = site.arguments["size"]
    known = [not isinstance(size, fx.Node) for size in sizes]
    return tuple(site.fresh(size) if open_ else site.fixed(size, "an open size") for size, open_ in zip(site.shape(), known, strict=True))


def counted(site: Site) -> Value:
    """Numbers that depend on their place, made from nothing."""
    return tuple(site.fixed(size) for size in site.shape())


def without_rule(site: Site) -> Value:
    """An operator that the table does not know: everything that meets in it stays."""
    name = site.node.target._schema.name.removeprefix("aten::") if hasattr(site.node.target, "_schema") else str(site.node.target)
    why = f"{site.node.name} has no rule for cutting ({name})"
    for node in site.tensors():
        for axis in site.axes(node):
            site.pin(axis, why)
    value = site.node.meta.get("val")
    if isinstance(value, tuple | list):
        return tuple(_as_fixed(site, site.shape(place)) if hasattr(part, "shape") else () for place, part in enumerate(value))
    return _as_fixed(site, site.shape()) if hasattr(value, "shape") else ()


def _as_fixed(site: Site, shape: tuple[int, ...]) -> Axes:
    return tuple(site.fixed(size, f"what {site.node.name} computes") for size in shape)


def prelu(site: Site) -> Value:
    """One slope for each channel, or one for all."""
    axes, (slopes,) = list(site.axes("self")), site.axes("weight") or (ONE,)
    if len(slopes) > 1:
        axes[1] = site.tie(axes[1], slopes)
    return tuple(axes)


def places(site: Site) -> Value:
    """Pooling, resizing: the last axes are places and stay; those before them pass."""
    axes = site.axes("self" if "self" in site.arguments else "input")
    value = site.node.meta["val"]
    shape = site.shape(0) if isinstance(value, tuple | list) else site.shape()
    result: list[Axis] = []
    for position, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        passes = position < len(axes) - _spatial(site, len(axes))
        if not passes:
            site.pin(axis, f"{site.node.name} takes it as places")
        result.append(axis if passes else site.fixed(size))
    return (tuple(result),) * len(value) if isinstance(value, tuple | list) else tuple(result)


def _spatial(site: Site, rank: int) -> int:
    name = site.node.target._schema.name  # type: ignore[union-attr]
    return next((count for count in (1, 2, 3) if f"{count}d" in name), rank - 2)


def size(site: Site) -> Value:
    """A size that the graph computes with: such an axis stays."""
    axes = site.axes("self")
    site.pin(axes[site.arguments["dim"]], f"{site.node.name} reads its size")
    return ()
