"""Where the axes of a value lie in the file.

An `Order` names, for each axis of the stored tensor, the axis of the source that it holds: (0, 2, 3, 1) is an image of the
source's NCHW laid out as NHWC. A permute of the source moves nothing: it only gives the stored axes new names. Data are
moved where an operator asks for an order that its input does not have, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

Order = tuple[int, ...]
Shape = Sequence[int]


def identity(rank: int) -> Order:
    """The source's own order."""
    return tuple(range(rank))


def channels_last(rank: int) -> Order:
    """Axis 1 behind all others: NCHW as NHWC, NCW as NWC.

    >>> channels_last(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


def relabelled(order: Order, permutation: Sequence[int]) -> Order:
    """The order of ``value.permute(permutation)`` where `order` is the value's and nothing is moved.

    >>> relabelled((0, 2, 3, 1), (0, 2, 3, 1))
    (0, 1, 2, 3)
    """
    renamed = {axis % len(order): position for position, axis in enumerate(permutation)}
    return tuple(renamed[axis] for axis in order)


def stored(shape: Shape, order: Order) -> tuple[int, ...]:
    """The sizes of the stored tensor."""
    return tuple(shape[axis] for axis in order)


def without(order: Order, axes: Sequence[int]) -> Order:
    """The order once some source axes are gone (a reduction that does not keep them)."""
    gone = {axis % len(order) for axis in axes}
    left = [axis for axis in order if axis not in gone]
    ranks = {axis: rank for rank, axis in enumerate(sorted(left))}
    return tuple(ranks[axis] for axis in left)


def with_new(order: Order, axis: int) -> Order:
    """The order once the source has a new axis at `axis`; it lies where a value in source order would have it."""
    moved = [old + 1 if old >= axis else old for old in order]
    place = axis if axis <= len(moved) else len(moved)
    return (*moved[:place], axis, *moved[place:])


def same_memory(shape: Shape, first: Order, second: Order) -> bool:
    """Whether two orders differ in axes of size 1 only."""
    return [axis for axis in first if shape[axis] != 1] == [axis for axis in second if shape[axis] != 1]


def axis_last(order: Order, axis: int) -> Order:
    """The order with one source axis moved to the end, the others as they are."""
    axis = axis % len(order)
    return (*(other for other in order if other != axis), axis)


def through_reshape(shape: Shape, order: Order, target: Shape, *, images: bool) -> tuple[Order, Order]:
    """The order that a reshape asks of its input, the nearest to `order`, and the order of its result.

    A reshape merges and splits neighbouring axes. Each smallest group of axes whose sizes multiply to those of a group of the
    target must lie together and in source order; the groups themselves may lie in any order. So an image (N, C, H, W) stored as
    NHWC becomes (N, C, H * W), stored as (N, H * W, C), without a move.

    Args:
        images: prefer channels last for a result of four axes where axes of size 1 leave a choice.
    """
    groups = _groups(shape, target)
    place = {axis: number for number, axis in enumerate(order)}
    groups.sort(key=lambda pair: max(place[axis] for axis in pair[0]))
    wanted = [axis for sources, _ in groups for axis in sources]
    result = [axis for _, targets in groups for axis in targets]
    if [axis for axis in order if shape[axis] != 1] != wanted:
        order = _with_ones(wanted, shape, channels_last=False)
    return order, _with_ones(result, target, channels_last=images and len(target) == 4)


def _groups(shape: Shape, target: Shape) -> list[tuple[list[int], list[int]]]:
    """Smallest groups of axes of equal product, axes of size 1 left out."""
    sources = [axis for axis, size in enumerate(shape) if size != 1]
    targets = [axis for axis, size in enumerate(target) if size != 1]
    groups = []
    while sources and targets:
        taken, given = [sources.pop(0)], [targets.pop(0)]
        left, right = shape[taken[0]], target[given[0]]
        while left != right:
            if left < right:
                taken.append(sources.pop(0))
                left *= shape[taken[-1]]
            else:
                given.append(targets.pop(0))
                right *= target[given[-1]]
        groups.append((taken, given))
    return groups


def _with_ones(axes: Sequence[int], shape: Shape, *, channels_last: bool) -> Order:
    """An order with these axes in this sequence, axes of size 1 put where they suit best."""
    rank = len(shape)
    candidates = [(0, *range(2, rank), 1), identity(rank)] if channels_last else [identity(rank)]
    for candidate in candidates:
        if [axis for axis in candidate if shape[axis] != 1] == list(axes):
            return candidate
    order = list(axes)
    for axis in range(rank):
        if shape[axis] == 1:
            order.insert(order.index(axis - 1) + 1 if axis - 1 in order else 0, axis)
    return tuple(order)
