"""Constants among operators' arguments that follow from sizes, rewritten when axes are cut: shapes, pieces, ends, groups, scales."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import fx

from tersenet.graph.dimensions.site import Axes, Axis, Fixed, Sizes, Value
from tersenet.graph.walk import add_constant, bind, constant, rebind

aten = torch.ops.aten


@dataclass(frozen=True)
class Cut:
    """One operator of the graph that is being cut.

    Args:
        module: the new graph.
        node: the operator in it.
        arguments: as they were, by name; nodes are those of the old graph.
        values: axes of the old graph's nodes.
        result: axes of the operator's result.
        alive: of an axis, which indices stay.
        sizes: sizes as numbers.
    """

    module: fx.GraphModule
    node: fx.Node
    arguments: Mapping[str, Any]
    values: Mapping[fx.Node, Value]
    result: Value
    alive: Callable[[Axis], NDArray[np.bool_]]
    sizes: Sizes

    def source(self, name: str = "self") -> Axes:
        return self.values[self.arguments[name]]  # type: ignore[return-value]

    def touched(self, axis: Axis) -> bool:
        """Whether an index of it leaves."""
        return not isinstance(axis, Fixed) and not bool(self.alive(axis).all())

    def kept(self, axis: Axis) -> int:
        return int(self.alive(axis).sum()) if not isinstance(axis, Fixed) else len(axis)

    def resized(self, given: Sequence[Any], axes: Axes) -> list[Any]:
        """Sizes as an operator takes them, those of cut axes renewed; an open one that holds cut channels too is inferred or computed."""
        sizes = list(given)
        for position, axis in enumerate(axes):
            if not self.touched(axis) or sizes[position] == -1:
                continue
            if not isinstance(sizes[position], fx.Node):
                sizes[position] = self.kept(axis)
            elif not any(isinstance(size, int) and size == -1 for size in sizes):
                sizes[position] = -1
            else:
                sizes[position] = self._share(sizes[position], self.kept(axis), len(axis))
        return sizes

    def _share(self, size: fx.Node, kept: int, whole: int) -> fx.Node:
        divisor = math.gcd(kept, whole)
        with self.module.graph.inserting_before(self.node):
            times = self.module.graph.call_function(operator.mul, (size, kept // divisor))
            share = self.module.graph.call_function(operator.floordiv, (times, whole // divisor))
        times.meta["val"] = size.meta["val"] * (kept // divisor)
        share.meta["val"] = times.meta["val"] // (whole // divisor)
        return share

    def now(self, name: str) -> Any:
        """An argument as the new graph has it."""
        return bind(self.node)[name]

    def rebind(self, **changes: Any) -> None:
        rebind(self.node, **changes)


def _shape(name: str) -> Callable[[Cut], None]:
    def rewrite(cut: Cut) -> None:
        cut.rebind(**{name: cut.resized(cut.now(name), cut.result)})  # type: ignore[arg-type]

    return rewrite


def _unflatten(cut: Cut) -> None:
    dim, sizes = cut.arguments["dim"] % len(cut.source()), cut.now("sizes")
    cut.rebind(sizes=cut.resized(sizes, cut.result[dim : dim + len(sizes)]))  # type: ignore[arg-type]


def _repeat(cut: Cut) -> None:
    name = "repeats" if "repeats" in cut.arguments else "dims"
    times, axes = list(cut.now(name)), cut.source()
    for back in range(1, len(times) + 1):
        wide = back <= len(axes) and len(axes[-back]) > 1
        if not wide and cut.touched(cut.result[-back]):  # type: ignore[arg-type]
            times[-back] = cut.kept(cut.result[-back])  # type: ignore[arg-type]
    cut.rebind(**{name: times})


def _repeat_interleave(cut: Cut) -> None:
    dim = (cut.arguments.get("dim") or 0) % len(cut.source())
    if not cut.touched(cut.result[dim]):  # type: ignore[arg-type]
        return
    if len(cut.source()[dim]) == 1:
        cut.rebind(repeats=cut.kept(cut.result[dim]))  # type: ignore[arg-type]
    if cut.arguments.get("output_size") is not None:
        cut.rebind(output_size=None)


def _split(cut: Cut) -> None:
    dim = cut.arguments["dim"] % len(cut.source())
    if cut.touched(cut.source()[dim]):
        sizes = [cut.kept(axes[dim]) for axes in cut.result]  # type: ignore[index]
        cut.node.target, cut.node.args, cut.node.kwargs = aten.split_with_sizes.default, (cut.node.args[0], sizes, dim), {}


def _slice(cut: Cut) -> None:
    dim = cut.arguments["dim"] % len(cut.source())
    axis = cut.source()[dim]
    if not cut.touched(axis):
        return
    size, step = len(axis), cut.arguments.get("step", 1)
    start = cut.arguments.get("start") or 0
    end = start + cut.arguments["length"] if "length" in cut.arguments else cut.arguments.get("end")
    taken = np.arange(size)[slice(start, end if isinstance(end, int) else None, step)]
    alive = cut.alive(axis)
    places = (np.cumsum(alive) - 1)[taken[alive[taken]]]
    steps = set(np.diff(places).tolist())
    if not len(places):  # it took nothing, and still does
        return
    if steps <= {1}:
        cut.node.target, cut.node.args, cut.node.kwargs = aten.slice.Tensor, (cut.node.args[0], dim, int(places[0]), int(places[-1]) + 1), {}
    else:
        _take(cut, dim, places)


def _take(cut: Cut, dim: int, places: NDArray[np.int64]) -> None:
    index = add_constant(cut.module, f"{cut.node.name}_index", torch.from_numpy(places.astype(np.int64)), cut.node, None)
    cut.node.target, cut.node.args, cut.node.kwargs = aten.index_select.default, (cut.node.args[0], dim, index), {}


def _select(cut: Cut) -> None:
    dim = cut.arguments["dim"] % len(cut.source())
    axis, index = cut.source()[dim], cut.arguments["index"]
    if cut.touched(axis):
        cut.rebind(index=int(cut.alive(axis)[: index % len(axis)].sum()))


def _index_select(cut: Cut) -> None:
    dim = cut.arguments["dim"] % len(cut.source())
    axis = cut.source()[dim]
    if cut.touched(axis):
        taken = constant(cut.module, cut.now("index")).reshape(-1).numpy()
        alive = cut.alive(axis)
        _take(cut, dim, (np.cumsum(alive) - 1)[taken[alive[taken]]])


def _index(cut: Cut) -> None:
    given = cut.arguments["indices"]
    dim = next(position for position, node in enumerate(given) if node is not None)
    axis = cut.source()[dim]
    if cut.touched(axis):
        taken = constant(cut.module, cut.now("indices")[dim]).numpy() % len(axis)
        alive = cut.alive(axis)
        _take(cut, dim, (np.cumsum(alive) - 1)[taken[alive[taken]]])


def _pad(cut: Cut) -> None:
    ends, axes = list(cut.now("pad")), cut.source()
    for position in range(len(ends) // 2):
        axis, result = axes[-1 - position], cut.result[-1 - position]
        if not isinstance(result, Fixed) and cut.touched(result):  # type: ignore[arg-type]
            alive, before = cut.alive(result), ends[2 * position]  # type: ignore[arg-type]
            ends[2 * position : 2 * position + 2] = [int(alive[:before].sum()), int(alive[before + len(axis) :].sum())]
    cut.rebind(pad=ends)


def _convolution(cut: Cut) -> None:
    groups = cut.arguments["groups"]
    if groups > 1:
        channel = len(cut.source("input")) - (len(cut.source("weight")) - 2) - 1
        axis = cut.source("input")[channel]
        cut.rebind(groups=_groups_left(cut, axis, groups))


def _groups_left(cut: Cut, axis: Axis, groups: int) -> int:
    """Of channels in groups, the groups of which something stays."""
    if isinstance(axis, Fixed):
        return groups
    return int(cut.alive(axis).reshape(groups, -1).any(1).sum())


def _group_norm(cut: Cut) -> None:
    cut.rebind(num_groups=_groups_left(cut, cut.source("input")[1], cut.arguments["num_groups"]))


def _channel_shuffle(cut: Cut) -> None:
    cut.rebind(groups=_groups_left(cut, cut.source()[1], cut.arguments["groups"]))


def _normalized_shape(cut: Cut) -> None:
    sizes = list(cut.now("normalized_shape"))
    cut.rebind(normalized_shape=cut.resized(sizes, cut.source("input")[-len(sizes) :]))


def _attention(cut: Cut) -> None:
    """The scale that the network was trained with stays: torch would work out another from the new width."""
    width = cut.source("query")[-1]
    if cut.touched(width) and cut.arguments.get("scale") is None:
        cut.rebind(scale=1 / math.sqrt(len(width)))


def _squeeze(cut: Cut) -> None:
    """An axis of which one index is left must not vanish."""
    if "dim" not in cut.arguments:
        ones = [position for position, size in enumerate(cut.source()) if len(size) == 1]
        cut.node.target, cut.node.args, cut.node.kwargs = aten.squeeze.dims, (cut.node.args[0], ones), {}


REWRITES: Mapping[str, Callable[[Cut], None]] = {
    "view": _shape("size"),
    "_unsafe_view": _shape("size"),
    "reshape": _shape("shape"),
    **dict.fromkeys(("expand", "broadcast_to"), _shape("size")),
    **dict.fromkeys(("zeros", "ones", "full", "empty", "new_zeros", "new_ones", "new_full", "new_empty"), _shape("size")),
    "unflatten": _unflatten,
    **dict.fromkeys(("repeat", "tile"), _repeat),
    "repeat_interleave": _repeat_interleave,
    **dict.fromkeys(("split", "split_with_sizes", "chunk", "tensor_split"), _split),
    **dict.fromkeys(("slice", "narrow"), _slice),
    "select": _select,
    "index_select": _index_select,
    "index": _index,
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _convolution),
    "group_norm": _group_norm,
    "channel_shuffle": _channel_shuffle,
    **dict.fromkeys(("layer_norm", "rms_norm"), _normalized_shape),
    "scaled_dot_product_attention": _attention,
    "squeeze": _squeeze,
}
