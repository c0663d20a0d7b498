"""The rule of reshapes: which axes of the result are made of which axes of what is reshaped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from tersenet.graph.dimensions.site import ONE, Axes, Axis, Fixed, Site, Value


def reshape(site: Site) -> Value:
    """``view``, ``reshape``, ``flatten``, ``unflatten``: axes are merged row by row, and split likewise."""
    return reshaped(site, site.axes(site.node.args[0]), site.shape())


def reshape_as(site: Site) -> Value:
    """``view_as``, ``reshape_as``: the shape is another tensor's, whose axes are cut alike."""
    return site.broadcast(reshaped(site, site.axes("self"), site.shape()), site.axes("other"))


def reshaped(site: Site, source: Axes, shape: Sequence[int]) -> Axes:
    """The axes of a value read anew in another shape."""
    result: list[Axis] = []
    for axes, sizes in segments(source, shape):
        result += _segment(site, axes, sizes)
    return tuple(result)


def segments(source: Axes, shape: Sequence[int]) -> Iterator[tuple[list[Axis], list[int]]]:
    """Runs of axes and of sizes that hold equally many places; nothing moves from one run to another."""
    axes = [axis for axis in source if len(axis) != 1]
    sizes = list(shape)
    position = 0
    while position < len(sizes) or axes:
        taken = [axes.pop(0)] if axes else []
        wanted: list[int] = []
        have, need = math.prod(len(axis) for axis in taken), 1
        while need != have or not wanted:
            if need <= have and position < len(sizes):
                wanted.append(sizes[position])
                need *= sizes[position]
                position += 1
            elif axes:
                taken.append(axes.pop(0))
                have *= len(taken[-1])
            else:
                break
        while position < len(sizes) and sizes[position] == 1:
            wanted.append(1)
            position += 1
        yield taken, wanted


def _segment(site: Site, axes: list[Axis], sizes: list[int]) -> list[Axis]:
    wide = [size for size in sizes if size != 1]
    made = iter(_wide(site, axes, wide))
    return [next(made) if size != 1 else ONE for size in sizes]


def _wide(site: Site, axes: list[Axis], sizes: list[int]) -> list[Axis]:
    """A run without axes of one."""
    if all(isinstance(axis, Fixed) for axis in axes):
        why = axes[0].why if axes else "one value"  # type: ignore[union-attr]
        return [Fixed(size, why) for size in sizes]
    if len(axes) == len(sizes) == 1:
        return list(axes)
    if isinstance(axes[0], Fixed) and sizes[0] % len(axes[0]) == 0 and len(axes) > 1:
        # What is never cut and stands in front repeats the rest: no atoms are needed for it.
        rest = sizes[0] // len(axes[0])
        inner = _wide(site, axes[1:], [rest, *sizes[1:]]) if rest > 1 else [ONE, *_wide(site, axes[1:], sizes[1:])]
        return [_repeated(axes[0], inner[0]), *inner[1:]]
    return _split(site, merged(site, axes), sizes)


def _repeated(outer: Fixed, inner: Axis) -> Axis:
    if isinstance(inner, Fixed):
        return Fixed(outer.size * inner.size, outer.why)
    return np.tile(inner, outer.size)


def merged(site: Site, axes: Sequence[Axis]) -> Axis:
    """One axis of several, row by row."""
    free = [position for position, axis in enumerate(axes) if not isinstance(axis, Fixed)]
    sizes = [len(axis) for axis in axes]
    if not free:
        return Fixed(math.prod(sizes), axes[0].why)  # type: ignore[union-attr]
    if len(free) == 1:
        outer, inner = math.prod(sizes[: free[0]]), math.prod(sizes[free[0] + 1 :])
        return np.tile(np.repeat(axes[free[0]], inner), outer)  # type: ignore[arg-type]
    whole = site.fresh(math.prod(sizes))
    site.product(whole, axes)
    return whole


def _split(site: Site, whole: Axis, sizes: Sequence[int]) -> list[Axis]:
    if len(sizes) == 1:
        return [whole]
    parts = [site.fresh(size) for size in sizes]
    site.product(whole, parts)
    return parts
